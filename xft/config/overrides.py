"""Overrides from the command line: ``data.max_length=1024``.

MMEngine merges ``--cfg-options`` after a config file has run, so whatever the file derived
from the old value keeps it. Here an override holds from the moment at which its key is first
assigned: it is applied again after every statement of every file, base files included, and
all that is computed below that line sees the new value.
"""

import ast
from collections.abc import Iterable, Mapping, MutableMapping
from copy import deepcopy
from typing import Any

from xft.errors import ConfigError, did_you_mean

Overrides = Mapping[str, Any]
LITERAL_ALIASES: dict[str, Any] = {"true": True, "false": False, "none": None, "null": None}
NAMED_COLLECTIONS = ("hooks", "loggers", "datasets")
"""Dicts of named components: a new name may be added from the command line."""
IMPLICIT_DEFAULTS = {"strategy": {"type": "single"}}
"""What a config rarely says, and what it then is: its keys can be set all the same."""


def parse_overrides(options: Iterable[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` options.

    Values are Python literals; ``true``, ``false``, ``none`` and ``null`` are understood, and
    what is no literal is taken as text.

    Raises:
        ConfigError: an option without ``=`` or with an empty key.
    """
    parsed: dict[str, Any] = {}
    wrong: list[str] = []
    for option in options:
        key, separator, text = option.partition("=")
        if not separator or not all(part.isidentifier() or part.isdecimal() for part in key.split(".")):
            wrong.append(f"--cfg-options: got {option!r}, expected KEY=VALUE such as data.max_length=1024")
            continue
        parsed[key] = parse_value(text)
    if wrong:
        raise ConfigError("\n".join(wrong))
    return parsed


def parse_value(text: str) -> Any:
    """Read one value: a Python literal, one of the words of ``LITERAL_ALIASES``, or text."""
    if text.lower() in LITERAL_ALIASES:
        return LITERAL_ALIASES[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def apply_to_existing(target: MutableMapping[str, Any], overrides: Overrides) -> None:
    """Set each override whose key exists in ``target`` by now. The others are left alone."""
    for key, value in overrides.items():
        *parents, last = key.split(".")
        holder: Any = target
        for part in parents:
            holder = _child(holder, part)
        if isinstance(holder, list) and last.isdigit() and int(last) < len(holder):
            holder[int(last)] = deepcopy(value)
        elif isinstance(holder, MutableMapping) and last in holder:
            holder[last] = deepcopy(value)


def apply(target: dict[str, Any], overrides: Overrides) -> None:
    """Set every override. A last key that does not exist yet is made; whether its component
    takes it is for ``check`` to say.

    Raises:
        ConfigError: paths that lead through nothing, all of them, with the nearest names.
    """
    wrong: list[str] = []
    _insert_implicit_defaults(target, overrides)
    for key, value in overrides.items():
        *parents, last = key.split(".")
        holder: Any = target
        for depth, part in enumerate(parents):
            if depth == 1 and parents[0] in NAMED_COLLECTIONS and isinstance(holder, dict):
                holder.setdefault(part, {})
            found = _child(holder, part)
            if not isinstance(found, (dict, list)):
                here = ".".join(parents[: depth + 1])
                known = holder.keys() if isinstance(holder, dict) else []
                if part in known:
                    wrong.append(f"--cfg-options {key}: {here} is {found!r}, which holds no keys")
                else:
                    wrong.append(
                        f"--cfg-options {key}: {here} is not in the config; {did_you_mean(part, known)}"
                    )
                break
            holder = found
        else:
            if isinstance(holder, list):
                if not (last.isdigit() and int(last) < len(holder)):
                    wrong.append(f"--cfg-options {key}: the list has {len(holder)} items")
                else:
                    holder[int(last)] = deepcopy(value)
            else:
                holder[last] = deepcopy(value)
    if wrong:
        raise ConfigError("\n".join(wrong))


def _insert_implicit_defaults(target: dict[str, Any], overrides: Overrides) -> None:
    asked = {key.partition(".")[0] for key in overrides if "." in key}
    for section in asked & IMPLICIT_DEFAULTS.keys():
        target.setdefault(section, deepcopy(IMPLICIT_DEFAULTS[section]))


def _child(holder: Any, part: str) -> Any:
    if isinstance(holder, MutableMapping):
        return holder.get(part, None)
    if isinstance(holder, list) and part.isdigit() and int(part) < len(holder):
        return holder[int(part)]
    return None
