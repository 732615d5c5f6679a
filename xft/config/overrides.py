"""Apply overrides from the command line: ``data.max_length=1024``.

MMEngine merges overrides after a config file was executed: values that the file derives keep the old one. Here, an
override takes effect as soon as its key is first assigned. It is applied again after every statement of every file,
base files included, and all values computed after that statement use it.
"""

import ast
from collections.abc import Iterable, Mapping, MutableMapping
from copy import deepcopy
from typing import Any

from xft.config import foreign_keys
from xft.errors import ConfigError, did_you_mean

Overrides = Mapping[str, Any]
LITERAL_ALIASES: dict[str, Any] = {"true": True, "false": False, "none": None, "null": None}
NAMED_COLLECTIONS = ("hooks", "loggers", "datasets", "rewards")
"""Keys of dicts of named components: overrides may add a name."""
IMPLICIT_DEFAULTS = {"strategy": {"type": "single_device"}}
"""Defaults inserted before overrides are applied, which allows overriding their keys."""
OPTION = "KEY=VALUE"


def parse_overrides(options: Iterable[str]) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` options.

    Raises:
        ConfigError: an option has no ``=`` or a malformed key, or unpacks a variable. ``causes`` has an error for each of
            them.
    """
    parsed: dict[str, Any] = {}
    mistakes: list[ConfigError] = []
    for option in options:
        key, separator, text = option.partition("=")
        if separator and all(part.isidentifier() or part.isdecimal() for part in key.split(".")):
            try:
                parsed[key] = parse_value(text)
            except _UnpackingError:
                expected = "values: a command line has no variables to unpack with * or **"
                mistakes.append(ConfigError(key=key, got=text, expected=expected))
        else:
            expected = "KEY=VALUE such as data.max_length=1024"
            mistakes.append(ConfigError(key=OPTION, got=option, expected=expected))
    _raise_all(mistakes)
    return parsed


class _UnpackingError(Exception):
    """A list or a dict of a command line unpacks a variable."""


def parse_value(text: str) -> Any:
    """Parse one value: a Python literal, a key of ``LITERAL_ALIASES``, or text.

    Words within lists and dicts need no quotes, and ``dict(key=value)`` is a dict: ``[q_proj,v_proj]``,
    ``{type: columns, user: q}``, ``dict(type=columns,user=q)``.

    Raises:
        _UnpackingError: the value has ``*`` or ``**``.
    """
    if text.lower() in LITERAL_ALIASES:
        return LITERAL_ALIASES[text.lower()]
    try:
        if not text.startswith(("[", "(", "{", "dict(")):
            return ast.literal_eval(text)
        return _container(ast.parse(text, mode="eval").body, text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _container(node: ast.expr, text: str) -> Any:
    """Return the value of an expression in ``text``; an item that is no literal is text, or an alias."""
    names = [keyword.arg for keyword in node.keywords] if isinstance(node, ast.Call) else []
    keys = node.keys if isinstance(node, ast.Dict) else []
    if isinstance(node, ast.Starred) or None in keys or None in names:
        raise _UnpackingError
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_container(item, text) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_container(key, text): _container(value, text) for key, value in pairs if key is not None}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        if node.args:
            raise ValueError("positional arguments")
        return {keyword.arg: _container(keyword.value, text) for keyword in node.keywords}
    source = ast.get_source_segment(text, node) or ""
    return LITERAL_ALIASES[source.lower()] if source.lower() in LITERAL_ALIASES else _literal(source)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def apply_to_existing(target: MutableMapping[str, Any], overrides: Overrides) -> None:
    """Apply the overrides whose key already exists in ``target``; skip the others."""
    for key, value in overrides.items():
        *parents, last = key.split(".")
        holder = target
        for part in parents:
            holder = _child(holder, part)
        if isinstance(holder, list) and last.isdigit() and int(last) < len(holder):
            holder[int(last)] = deepcopy(value)
        elif isinstance(holder, MutableMapping) and last in holder:
            holder[last] = deepcopy(value)


def apply(target: dict[str, Any], overrides: Overrides) -> None:
    """Apply all overrides. A last part that does not exist is added, for ``check`` to accept or reject.

    Raises:
        ConfigError: the parent of a key does not exist. ``causes`` has an error for each of them.
    """
    _insert_implicit_defaults(target, overrides)
    mistakes: list[ConfigError] = []
    for key, value in overrides.items():
        try:
            _set(target, key, value)
        except ConfigError as error:
            mistakes.append(error)
    _raise_all(mistakes)


def _set(target: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    holder: dict[str, Any] | list[Any] = target
    for depth, part in enumerate(parents):
        if depth == 1 and parents[0] in NAMED_COLLECTIONS and isinstance(holder, dict):
            holder.setdefault(part, {})
        child = _child(holder, part)
        if not isinstance(child, (dict, list)):
            raise _no_parent(key, ".".join(parents[: depth + 1]), holder, part)
        holder = child
    if isinstance(holder, dict):
        holder[last] = deepcopy(value)
    elif last.isdigit() and int(last) < len(holder):
        holder[int(last)] = deepcopy(value)
    else:
        raise ConfigError(f"{key}: the list has {len(holder)} items", key=key, got=value)


def _no_parent(key: str, parent: str, holder: dict[str, Any] | list[Any], part: str) -> ConfigError:
    known = holder.keys() if isinstance(holder, dict) else []
    if isinstance(holder, dict) and part in holder:
        return ConfigError(f"{key}: {parent} is {holder[part]!r}, which has no keys", key=key, got=part)
    fix = foreign_keys.advice(key) or did_you_mean(part, known)
    return ConfigError(f"{key}: {parent} is not in the config; {fix}", key=key, got=part, fix=fix)


def _raise_all(mistakes: list[ConfigError]) -> None:
    if mistakes:
        message = "\n".join(map(str, mistakes))
        raise ConfigError(message, key=mistakes[0].key, got=mistakes[0].got, causes=mistakes)


def _insert_implicit_defaults(target: dict[str, Any], overrides: Overrides) -> None:
    sections = {key.partition(".")[0] for key in overrides if "." in key}
    for section in sections & IMPLICIT_DEFAULTS.keys():
        target.setdefault(section, deepcopy(IMPLICIT_DEFAULTS[section]))
        if isinstance(target[section], str):
            target[section] = {"type": target[section]}


def _child(holder: object, part: str) -> Any:
    if isinstance(holder, MutableMapping):
        return holder.get(part, None)
    if isinstance(holder, list) and part.isdigit() and int(part) < len(holder):
        return holder[int(part)]
    return None
