"""Load and write config files.

A config file is MMEngine's pure-Python kind: assignments, with ``read_base()`` for what it
builds upon. Loading one runs it, unless it is read as data. What comes out is plain data (dicts, lists, text, numbers,
booleans, ``None``): an object that a file imported becomes its dotted name, so that writing
the config down and reading it again gives the same config.
"""

import ast
import math
import pprint
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.config.lazy import LazyObject

from xft.config.overrides import Overrides, apply, apply_to_existing
from xft.config.safe_load import safe_load
from xft.errors import ConfigError
from xft.utils import paths

ConfigDict = dict[str, Any]


def load_config(
    path: str | Path, overrides: Overrides | None = None, safe_config: bool = False
) -> ConfigDict:
    """Run a config file, or read it as data.

    Args:
        path: a ``.py`` config file.
        overrides: dotted key to value, as ``parse_overrides`` returns them.
        safe_config: run nothing, and refuse what is not plain data (see :mod:`xft.config.safe_load`).

    Returns:
        The config as plain data. Names that begin with an underscore are the file's own
        helpers and are left out.

    Raises:
        ConfigError: the file does not exist, does not parse, fails while it runs, or holds a
            value that is not plain data; or an override leads through nothing.
    """
    file = Path(path)
    overrides = overrides or {}
    if not file.is_file():
        raise ConfigError(f"config: {_missing(file)}")
    if file.suffix != ".py":
        raise ConfigError(f"config: got {str(path)!r}, expected a Python config file (.py)")
    if safe_config:
        values = safe_load(file, _parse(file))
        wrong: list[str] = []
    else:
        values, wrong = _run(file, overrides)
    config = {key: value for key, value in values.items() if not key.startswith("_")}
    apply(config, {key: value for key, value in overrides.items() if not key.startswith("_")})
    wrong += _not_plain("", config)
    if wrong:
        raise ConfigError(f"{file}: " + "\n".join(wrong))
    return config


def _missing(file: Path) -> str:
    if file.is_dir():
        return f"{str(file)!r} is a folder, expected a Python config file (.py)"
    if (paths.configs() / f"{file.stem}.py").is_file():
        return f"no file {str(file)!r}; `xft copy {file.stem}` writes the shipped one of this name here"
    return f"no file {str(file)!r}; `xft list configs` shows the shipped ones"


def _run(file: Path, overrides: Overrides) -> tuple[ConfigDict, list[str]]:
    """What a file says when it is run, and what is wrong with it."""
    try:
        _refuse_old_kind(file)
        with _overriding(overrides):
            loaded = Config.fromfile(str(file), lazy_import=True)
        return loaded.to_dict(), list(_modules("", loaded._to_lazy_dict()))
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(_explain(file, error)) from error


def dump_config(config: ConfigDict, path: str | Path | None = None) -> str:
    """Write a config as a Python file of plain assignments, which ``load_config`` reads back.

    Args:
        config: a config as ``load_config`` returns it.
        path: where to write it; ``None`` writes nothing.

    Returns:
        The text.
    """
    blocks = [
        f"{key} = {pprint.pformat(value, width=96, sort_dicts=False)}" for key, value in config.items()
    ]
    text = "\n".join(blocks) + "\n"
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _refuse_old_kind(file: Path) -> None:
    """MMEngine's older kind of config, with ``_base_ = [...]``, is merged before it is run, so that
    an override could not reach what a file derives."""
    for node in _parse(file).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(each, ast.Name) and each.id == "_base_" for each in targets):
            raise ConfigError(
                f"{file}:{node.lineno}: got _base_ = ..., expected `with read_base(): from .NAME import *` "
                "(from mmengine.config import read_base)"
            )


def _parse(file: Path) -> ast.Module:
    """The syntax tree of a file, and of every base that it names, so that an error names its file."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except (SyntaxError, ValueError) as error:
        number = getattr(error, "lineno", None)
        line = f":{number}" if number else ""
        raise ConfigError(f"{file}{line}: does not parse ({getattr(error, 'msg', error)})") from error
    for block in (each for each in tree.body if isinstance(each, ast.With)):
        for node in (each for each in block.body if isinstance(each, ast.ImportFrom)):
            if node.level and node.module:
                base = file.parent.joinpath(*[".."] * (node.level - 1), *node.module.split("."))
                if base.with_suffix(".py").is_file():
                    _parse(base.with_suffix(".py"))
    return tree


@contextmanager
def _overriding(overrides: Overrides) -> Iterator[None]:
    """While this is open, MMEngine applies ``overrides`` after each statement of a file.

    MMEngine has no hook for it; its transformer of the syntax tree is the one place through
    which every file passes, base files first.
    """
    original = mmengine_config.ImportTransformer

    class Transformer(original):  # type: ignore[misc, valid-type]
        def visit_Module(self, node: ast.Module) -> ast.Module:
            node = self.generic_visit(node)
            scope = self.global_dict
            scope["__apply_overrides"] = _applier(scope, overrides)
            call = "__apply_overrides()"
            node.body = [
                each
                for statement in node.body
                for each in (statement, *ast.parse(call).body)
                if not isinstance(statement, ast.ImportFrom) or statement.module != "__future__"
            ]
            return node

    mmengine_config.ImportTransformer = Transformer
    try:
        yield
    finally:
        mmengine_config.ImportTransformer = original


def _applier(scope: dict[str, Any], overrides: Overrides) -> Callable[[], None]:
    return lambda: apply_to_existing(scope, overrides)


def _foreign(filename: str) -> bool:
    """Whether a frame is ours or a library's, and not of a config."""
    return any(part in filename for part in ("site-packages", "/xft/config/")) or filename.startswith(
        sysconfig.get_path("stdlib")
    )


def _explain(file: Path, error: Exception) -> str:
    frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename.endswith(".py")]
    own = [each for each in frames if not _foreign(each.filename)]
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else str(file)
    if isinstance(error, RuntimeError) and not str(error):
        return f"{where}: calls something that it imports; a config declares: write dict(type=NAME, ...)"
    return f"{where}: {type(error).__name__}: {error}"


def _modules(path: str, value: Any) -> Iterator[str]:
    """Modules that a config holds as a value, which would be written down as a meaningless name."""
    if isinstance(value, dict):
        for key, each in value.items():
            if not (path == "" and isinstance(each, LazyObject)):  # the import itself
                yield from _modules(f"{path}.{key}" if path else str(key), each)
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _modules(f"{path}.{index}", each)
    elif isinstance(value, LazyObject) and value._imported is None:
        yield f"{path}: got the module {value.module!r}, expected a class or function of it, or plain data"


def _not_plain(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _not_plain(f"{path}.{key}" if path else str(key), each)
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from _not_plain(f"{path}.{index}", each)
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: got {value}, expected a finite number"
    elif value is not None and not isinstance(value, (str, int, float, bool)):
        yield (
            f"{path}: got a {type(value).__name__}, expected text, a number, a list or a dict "
            "(name functions and classes of your own by their dotted path, 'package.module.name')"
        )
