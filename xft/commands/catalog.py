"""List and copy: the shipped configs, the components that a config may name, and its keys."""

import json
from pathlib import Path

from xft.config import dump_config, load_config
from xft.config.keys import config_keys, plural
from xft.config.signatures import summary_of
from xft.errors import ConfigError, did_you_mean
from xft.registry import REGISTRY_BY_KEY, list_registered, resolve
from xft.utils import paths
from xft.utils.presets import find_preset, preset_methods, preset_models, read_docstring

MAX_PATH_WIDTH = 40
"""Longest path that widens the first column of ``xft list keys``."""


def shipped_configs() -> dict[str, Path]:
    """Return name to file of the configs that come with xft, without bases."""
    return {file.stem: file for file in sorted(paths.configs().glob("*.py"))}


def format_listing(what: str) -> list[str]:
    """Format a listing of configs, of keys, or of the components of one kind.

    Each format is followed by an indented example row, as one line of JSON.

    Raises:
        ConfigError: ``what`` is unknown.
    """
    if what in ("configs", "config"):
        return _files(shipped_configs() | preset_models())
    if what in ("methods", "method"):
        return _files(preset_methods())
    if what in ("keys", "key"):
        return list_keys()
    key = listable_kinds().get(what, what)
    if key not in REGISTRY_BY_KEY:
        fix = did_you_mean(what, {*listable_kinds(), "configs", "keys"})
        raise ConfigError(f"list: unknown kind {what!r}; {fix}", key="list", got=what, fix=fix)
    lines = _table({name: summary_of(resolve(key, name)) for name in list_registered(key)})
    return _with_examples(lines) if key == "format" else lines


def list_keys() -> list[str]:
    """Format one line for each key of a config: path, type, default, summary, components that have it."""
    from xft.run_config.config import RunConfig

    keys = config_keys(RunConfig)
    widths = (len(key.path) for key in keys)
    width = max(width for width in widths if width <= MAX_PATH_WIDTH)
    return [key.format(width) for key in keys]


def copy_config(name: str, folder: str) -> Path:
    """Write a shipped config into a folder, all values in one file.

    Args:
        name: of a shipped config or model (:mod:`xft.utils.presets`).
        folder: a folder or a file that does not exist.

    Raises:
        ConfigError: ``name`` is unknown, or the file exists or cannot be written.
    """
    known = shipped_configs()
    key = Path(name).stem
    preset = None if key in known else find_preset(key)
    if key not in known and preset is None:
        fix = did_you_mean(key, known | preset_models())
        raise ConfigError(f"copy: unknown config {name!r}; {fix}", key="copy", got=name, fix=fix)
    target = Path(folder)
    if target.suffix != ".py":
        target = target / f"{key}.py"
    if target.exists():
        raise ConfigError(
            f"copy: {target} exists; give another folder or file name", key="copy", got=folder
        )
    # Why: this imports torch, for which a wrong name need not wait.
    from xft.run_config.config import RunConfig

    docstring = read_docstring(known[key]) if preset is None else preset.docstring
    config = load_config(key)
    text = f'"""{docstring}"""\n\n' + dump_config(config, root=RunConfig)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"copy: cannot write {target} ({error.strerror})"
        raise ConfigError(message, key="copy", got=folder) from error
    return target


def listable_kinds() -> dict[str, str]:
    """Return the plural of each kind of component to the key of its registry."""
    first = {id(registry): key for key, registry in reversed(REGISTRY_BY_KEY.items())}
    return {plural(key): key for key in REGISTRY_BY_KEY if first[id(REGISTRY_BY_KEY[key])] == key}


def _files(files: dict[str, Path]) -> list[str]:
    return _table({name: read_docstring(file) for name, file in files.items()})


def _table(rows: dict[str, str]) -> list[str]:
    width = max((len(name) for name in rows), default=0)
    return [f"{name:<{width}}  {text}".rstrip() for name, text in rows.items()]


def _with_examples(lines: list[str]) -> list[str]:
    from xft.data.formats import EXAMPLES

    listing = []
    for line in lines:
        listing.append(line)
        name = line.split()[0]
        if example := EXAMPLES.get(name):
            arguments = "".join([f", {key}={value!r}" for key, value in example.arguments.items()])
            if arguments:
                listing.append(f"    format=dict(type={name!r}{arguments})")
            listing.append("    " + json.dumps(example.row, ensure_ascii=False))
    return listing
