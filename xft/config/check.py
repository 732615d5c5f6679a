"""Check a config without building anything.

Every dict with a ``type`` is bound to the signature of what it names: unknown keys, missing
ones and values of the wrong type are collected, all of them, with the nearest known names.
"""

import inspect
import types
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from xft.config.overrides import NAMED_COLLECTIONS
from xft.errors import ConfigError, did_you_mean
from xft.registry import PARTIAL_KEYS, REGISTRY_BY_KEY, resolve


def check(config: Mapping[str, Any], root: Callable[..., Any], where: str = "config") -> None:
    """Bind a whole config, unbuilt.

    Args:
        config: plain data, as ``load_config`` returns it.
        root: the class whose signature the top level must fit.
        where: the name of the config, for the message.

    Raises:
        ConfigError: everything that is wrong, a line each.
    """
    wrong = list(_bind("", config, root, partial=False))
    if wrong:
        count = f"{len(wrong)} mistakes" if len(wrong) > 1 else "1 mistake"
        raise ConfigError(f"{where}: {count}\n" + "\n".join(f"  {each}" for each in wrong))


def _bind(path: str, values: Mapping[str, Any], target: Callable[..., Any], partial: bool) -> Iterator[str]:
    parameters, hints = signature_of(target)
    open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    named = {name: each for name, each in parameters.items() if each.kind not in _VARIADIC}
    for key, value in values.items():
        full = f"{path}.{key}" if path else key
        if key == "type" and path:
            continue
        if key not in named and not open_ended:
            hint = "" if path else "; helpers of your own begin with an underscore"
            yield f"{full}: unknown key; {did_you_mean(key, named)}{hint}"
            continue
        yield from _check_value(full, key, value, hints.get(key, Any))
    if not partial:
        for name, parameter in named.items():
            if parameter.default is inspect.Parameter.empty and name not in values:
                full = f"{path}.{name}" if path else name
                yield f"{full}: missing; expected {_say(hints.get(name, Any))}"


_VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def _check_value(path: str, key: str, value: Any, hint: Any) -> Iterator[str]:
    if key in NAMED_COLLECTIONS and isinstance(value, Mapping):
        for name, each in value.items():
            if each is not None:
                others = [other for other in value if other != name]
                yield from _check_component(f"{path}.{name}", key, each, others)
    elif key in REGISTRY_BY_KEY and key not in NAMED_COLLECTIONS and isinstance(value, (str, Mapping)):
        yield from _check_component(path, key, value)
    elif isinstance(value, Mapping) and (section := dataclass_of(hint)) is not None:
        yield from _bind(path, value, section, partial=False)
    elif not matches(value, hint):
        yield f"{path}: got {value!r}, expected {_say(hint)}"


def dataclass_of(hint: Any) -> type | None:
    """The dataclass that a plain dict is bound to, where the annotation is one."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((each for each in options if inspect.isclass(each) and is_dataclass(each)), None)


def _check_component(path: str, slot: str, value: Any, beside: Collection[str] = ()) -> Iterator[str]:
    spec = {"type": value} if isinstance(value, str) else value
    if not isinstance(spec, Mapping):
        yield f"{path}: got {value!r}, expected dict(type=..., ...)"
        return
    name = spec.get("type")
    if not isinstance(name, str):
        near = did_you_mean(path.rpartition(".")[2], beside)
        hint = f"; {near}" if near.startswith("did you mean") else ""
        yield f"{path}: 'type' is missing; expected dict(type=..., ...){hint}"
        return
    try:
        target = resolve(slot, name)
        signature_of(target)
    except (ConfigError, ValueError) as error:
        yield f"{path}.type: {error}"
        return
    partial = slot in PARTIAL_KEYS or not inspect.isclass(target)
    yield from _bind(path, spec, target, partial)


@cache
def signature_of(
    target: Callable[..., Any],
) -> tuple[Mapping[str, inspect.Parameter], dict[str, Any]]:
    """The parameters of a class or function, and their annotations as objects."""
    signature = inspect.signature(target)
    holder = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(holder)
    except (NameError, TypeError):  # annotations of foreign code that cannot be read back
        hints = {}
    return signature.parameters, hints


def matches(value: Any, hint: Any) -> bool:
    """Whether a plain value fits a type annotation. An int fits ``float``; a class that is
    none of plain data's is not judged here unless the value is a bare number or flag."""
    origin = get_origin(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if origin in (Union, types.UnionType):
        return any(matches(value, each) for each in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    bare = origin or hint
    if bare is tuple and get_args(hint) and get_args(hint)[-1] is not Ellipsis:
        items = get_args(hint)
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(items)
            and all(matches(each, item) for each, item in zip(value, items, strict=True))
        )
    if inspect.isclass(bare) and issubclass(bare, (list, tuple, Sequence)):
        items = get_args(hint)
        return isinstance(value, (list, tuple)) and (
            not items or all(matches(each, items[0]) for each in value)
        )
    if inspect.isclass(bare) and issubclass(bare, (dict, Mapping)):
        return isinstance(value, Mapping)
    return value is not None and not isinstance(value, (str, int, float, bool, list, tuple, dict))


def _say(hint: Any) -> str:
    if hint is Any:
        return "a value"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(each) for each in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_say(each) for each in get_args(hint))
    if hint in (None, type(None)):
        return "None"
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
