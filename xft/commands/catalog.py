"""What there is: the shipped configs, and the components that a config may name."""

import ast
import inspect
import json
from collections.abc import Callable
from pathlib import Path

from xft.config import dump_config, load_config
from xft.errors import ConfigError, did_you_mean
from xft.registry import REGISTRY_BY_KEY, list_registered, resolve
from xft.utils import paths


def shipped_configs() -> dict[str, Path]:
    """Name to file of the configs that come with xft, bases left out."""
    return {each.stem: each for each in sorted(paths.configs().glob("*.py"))}


def listing(what: str) -> list[str]:
    """Lines that list configs, or the components of a kind.

    Below each format stands an example row, indented, as one line of JSON.

    Raises:
        ConfigError: there is no such kind.
    """
    if what in ("configs", "config"):
        return _table({name: _docstring(file) for name, file in shipped_configs().items()})
    slot = kinds().get(what, what)
    if slot not in REGISTRY_BY_KEY:
        raise ConfigError(f"list: nothing is called {what!r}; {did_you_mean(what, {*kinds(), 'configs'})}")
    lines = _table({name: _summary(resolve(slot, name)) for name in list_registered(slot)})
    return _with_examples(lines) if slot == "format" else lines


def copy_config(name: str, folder: str) -> Path:
    """Write a shipped config, all values in one file, into a folder.

    Raises:
        ConfigError: there is no such config, or the file exists.
    """
    known = shipped_configs()
    key = Path(name).stem
    if key not in known:
        raise ConfigError(f"copy: no config is called {name!r}; {did_you_mean(key, known)}")
    target = Path(folder)
    if target.suffix != ".py":
        target = target / f"{key}.py"
    if target.exists():
        raise ConfigError(f"copy: {target} exists; give another folder or file name")
    text = f'"""{_docstring(known[key])}"""\n\n' + dump_config(load_config(known[key]))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"copy: cannot write {target} ({error.strerror})") from error
    return target


def kinds() -> dict[str, str]:
    """The kinds of components, as English has them in the plural, to the key of the config they stand under."""
    return {
        _plural(slot): slot for slot in REGISTRY_BY_KEY if slot != "datasets"
    }  # those of a mixture are data


def _plural(slot: str) -> str:
    if slot.endswith("s") or slot == "data":
        return slot
    return f"{slot[:-1]}ies" if slot.endswith("y") else f"{slot}s"


def _table(rows: dict[str, str]) -> list[str]:
    width = max((len(each) for each in rows), default=0)
    return [f"{name:<{width}}  {text}".rstrip() for name, text in rows.items()]


def _with_examples(lines: list[str]) -> list[str]:
    from xft.data.formats import EXAMPLES

    found = []
    for line in lines:
        found.append(line)
        if example := EXAMPLES.get(line.split()[0]):
            given = "".join([f", {key}={value!r}" for key, value in example.arguments.items()])
            if given:
                found.append(f"    format=dict(type={line.split()[0]!r}{given})")
            found.append("    " + json.dumps(example.row, ensure_ascii=False))
    return found


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _summary(component: Callable[..., object]) -> str:
    return (inspect.getdoc(component) or "").split("\n")[0].replace("``", "")
