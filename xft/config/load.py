"""Load config files.

A config file is MMEngine's pure-Python kind: assignments, with ``read_base()`` for the files that it extends. It is
executed, or parsed as data with ``safe_config``. The result is plain data: dicts, lists, strings, numbers, booleans and
``None``. An imported class or function becomes its dotted name, which makes loading and dumping inverse to each other.
"""

import ast
import math
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyObject

from xft.compat.mmengine_config import patched_import_transformer
from xft.config.overrides import Overrides, apply, apply_to_existing
from xft.config.safe_load import safe_load
from xft.errors import ConfigError
from xft.utils.presets import PYTHON_FILE, Preset, find_config

ConfigDict = dict[str, Any]
PATH_KEYS = ("path", "val_split", "eval_prompts", "config_file")
"""Keys whose texts may be files; relative ones are looked up from the current folder."""


def load_config(
    path: str | Path, overrides: Overrides | None = None, safe_config: bool = False
) -> ConfigDict:
    """Load a config file.

    Args:
        path: a ``.py`` config file, or the name of a shipped config or model (:mod:`xft.utils.presets`).
        overrides: dotted key to value, as ``parse_overrides`` returns them.
        safe_config: parse the file without executing it (see :mod:`xft.config.safe_load`). Shipped configs are executed.

    Returns:
        The config as plain data, without names that begin with an underscore: these are helpers of the file.

    Raises:
        ConfigError: the file does not exist, does not parse, fails when executed, or holds a value that is not plain
            data; or the path of an override does not exist. ``causes`` has an error for each value.
    """
    file = find_config(Path(path))
    if isinstance(file, Preset):
        with file.written() as written:
            return load_config(written, overrides)
    overrides, safe_config = overrides or {}, safe_config and file == Path(path)
    if file.suffix != ".py":
        raise ConfigError(key="config", got=str(path), expected=PYTHON_FILE, fix=_other_file(file))
    try:
        config, mistakes = _load(file, overrides, safe_config)
    except (RecursionError, MemoryError) as error:
        raise ConfigError(
            f"{file}: an expression, or its values, are nested too deeply", key="config"
        ) from error
    if mistakes:
        message = f"{file}: " + "\n".join(map(str, mistakes))
        raise ConfigError(message, key=mistakes[0].key, got=mistakes[0].got, causes=mistakes)
    return config


def _load(file: Path, overrides: Overrides, safe_config: bool) -> tuple[ConfigDict, list[ConfigError]]:
    """Read a file, and apply the overrides. Returns the config, and the mistakes in its values."""
    mistakes: list[ConfigError] = []
    if safe_config:
        values = safe_load(file, _parse(file))
    else:
        values, mistakes = _exec_config(file, overrides)
    config = {key: value for key, value in values.items() if not key.startswith("_")}
    apply(config, {key: value for key, value in overrides.items() if not key.startswith("_")})
    mistakes += _find_non_literal("", config)
    mistakes += _find_paths_next_to(file.parent, "", config)
    return config, mistakes


def _other_file(file: Path) -> str:
    """Return what to do with a file that is no config."""
    if file.suffix.lower() in (".yaml", ".yml"):
        return f"`xft import {file}` converts a config of another tool"
    return f"if these are rows: `xft train --model MODEL --data {file}`"


def _exec_config(file: Path, overrides: Overrides) -> tuple[ConfigDict, list[ConfigError]]:
    """Execute a file. Returns its values, and the mistakes in them that only show before they are plain data."""
    try:
        _reject_legacy_config(file)
        with patched_import_transformer(lambda scope: apply_to_existing(scope, overrides)):
            loaded = Config.fromfile(str(file), lazy_import=True)
        return loaded.to_dict(), list(_find_modules("", loaded._to_lazy_dict()))
    except (ConfigError, RecursionError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(_explain(file, error), key="config") from error


def _reject_legacy_config(file: Path) -> None:
    """Raise for a config with ``_base_ = [...]``.

    MMEngine merges the files of such a config before it executes them, and an override could not reach derived values.
    """
    for node in _parse(file).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "_base_" for target in targets):
            raise ConfigError(
                f"{file}:{node.lineno}: got _base_ = ...; expected `with read_base(): from .NAME import *` "
                "(from mmengine.config import read_base)",
                key="_base_",
            )


def _parse(file: Path, parents: tuple[Path, ...] = ()) -> ast.Module:
    """Parse a file and every base that it names. Checking the bases here makes an error name its file."""
    if file.resolve() in parents:
        names = " → ".join(path.name for path in (*parents, file))
        raise ConfigError(
            f"{parents[0]}: the bases name each other ({names}); expected bases without a cycle",
            key="config",
            expected="bases without a cycle",
        )
    try:
        text = file.read_text(encoding="utf-8")
        if text.startswith("\ufeff"):
            raise ValueError("it begins with a byte-order mark; save it as UTF-8 without BOM")
        tree = ast.parse(text, filename=str(file))
    except (SyntaxError, ValueError) as error:
        line, reason = (error.lineno, error.msg) if isinstance(error, SyntaxError) else (None, str(error))
        message = f"{file}{f':{line}' if line else ''}: does not parse ({reason})"
        raise ConfigError(message, key="config") from error
    for block in (node for node in tree.body if isinstance(node, ast.With)):
        for node in (child for child in block.body if isinstance(child, ast.ImportFrom)):
            if node.level and node.module:
                base = file.parent.joinpath(*[".."] * (node.level - 1), *node.module.split("."))
                if base.with_suffix(".py").is_file():
                    _parse(base.with_suffix(".py"), (*parents, file.resolve()))
    return tree


def _is_outside_package(filename: str) -> bool:
    """Return whether a frame belongs to xft or a library and not to a config."""
    parts = ("site-packages", "/xft/config/", "/xft/compat/")
    return any(part in filename for part in parts) or filename.startswith(sysconfig.get_path("stdlib"))


def _explain(file: Path, error: Exception) -> str:
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".py")
    ]
    inside = [frame for frame in frames if not _is_outside_package(frame.filename)]
    where = f"{inside[-1].filename}:{inside[-1].lineno}" if inside else str(file)
    if isinstance(error, RuntimeError) and not str(error):
        return f"{where}: calls an imported object; a config only declares them: write dict(type=NAME, ...)"
    if "LazyAttr" in str(error) or "LazyObject" in str(error):
        return (
            f"{where}: computes with an imported object ({error}); a config has only literals and names of components: "
            "write the value, or give it with --cfg-options KEY=VALUE"
        )
    return f"{where}: {type(error).__name__}: {error}"


def _find_modules(path: str, value: object) -> Iterator[ConfigError]:
    """Find modules among the values of a config. As plain data they would be meaningless names."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not (path == "" and isinstance(item, LazyObject)):  # the import statement itself
                yield from _find_modules(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _find_modules(f"{path}.{index}", item)
    elif isinstance(value, LazyObject) and value._imported is None:
        expected = "a class or function of it, or plain data"
        message = f"{path}: got the module {value.module!r}; expected {expected}"
        yield ConfigError(message, key=path, got=value.module, expected=expected)


def _find_non_literal(path: str, value: object) -> Iterator[ConfigError]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _find_non_literal(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _find_non_literal(f"{path}.{index}", item)
    elif isinstance(value, float) and not math.isfinite(value):
        yield ConfigError(key=path, got=value, expected="a finite number")
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        expected = "text, a number, a list or a dict"
        yield ConfigError(
            f"{path}: got a {type(value).__name__}; expected {expected} "
            "(name functions and classes by their dotted path, 'package.module.name')",
            key=path,
            got=value,
            expected=expected,
        )


def _find_paths_next_to(folder: Path, path: str, values: object, key: str = "") -> Iterator[ConfigError]:
    """Find files that are given as if paths began at the folder of the config."""
    if isinstance(values, (dict, list, tuple)):
        items = values.items() if isinstance(values, dict) else enumerate(values)
        for name, value in items:
            inner = name if isinstance(name, str) else key
            yield from _find_paths_next_to(folder, f"{path}.{name}" if path else str(name), value, inner)
    elif isinstance(values, str) and key in PATH_KEYS and (name := values.partition("#")[0]):
        beside = folder / name
        if not Path(name).exists() and beside.is_file():
            yield ConfigError(
                key=path,
                got=values,
                expected="a path from the current folder",
                fix=f"use {beside}, which lies next to the config",
            )
