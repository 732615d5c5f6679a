"""Read the parameters of components: names, annotations, defaults and one line of documentation each."""

import inspect
import operator
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt

Component = Callable[..., Any]
Limit = Ge | Gt | Le | Lt
COMPARISONS: dict[type[Limit], tuple[str, Callable[[Any, Any], bool]]] = {
    Ge: ("ge", operator.ge),
    Gt: ("gt", operator.gt),
    Le: ("le", operator.le),
    Lt: ("lt", operator.lt),
}
"""Attribute with the limit, and comparison of a value with it."""
_SECTIONS = ("Args:", "Attributes:")
_ENTRY = re.compile(r" {4}(\w+(?:, \w+)*): (.*)")
_MODULE = re.compile(r"\b(?:\w+\.)+(?=\w)")
_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)(?<! al)\.(?:\s|$)")
_NOT_NAMED = (
    inspect.Parameter.VAR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.POSITIONAL_ONLY,
)


@cache
def signature_of(target: Component) -> tuple[Mapping[str, inspect.Parameter], dict[str, Any]]:
    """Return the parameters of a class or function, and their annotations as objects.

    Raises:
        ValueError: ``target`` is a builtin without a signature.
    """
    signature = inspect.signature(target)
    holder = target.__init__ if inspect.isclass(target) else target
    try:
        hints = typing.get_type_hints(holder, include_extras=True)
    except (NameError, TypeError):  # annotations of foreign code that name unknown types
        hints = {}
    return signature.parameters, hints


def named_parameters(target: Component) -> dict[str, inspect.Parameter]:
    """Return the parameters of ``target`` that have a name: no ``*args``, ``**kwargs`` or positional-only ones."""
    parameters, _ = signature_of(target)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in _NOT_NAMED}


def accepts_any_key(target: Component) -> bool:
    """Return whether ``target`` takes ``**kwargs``."""
    parameters, _ = signature_of(target)
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


@cache
def argument_docs(target: Component) -> dict[str, str]:
    """Parse the ``Args`` section of a docstring.

    Returns:
        Parameter name to the first sentence of its description, without markup and the final period. A class
        inherits the entries of its bases.
    """
    holders = reversed(inspect.getmro(target)) if inspect.isclass(target) else [target]
    docs: dict[str, str] = {}
    for holder in holders:
        docs.update(_parse_arguments(inspect.cleandoc(holder.__doc__ or "")))
    return docs


def _parse_arguments(docstring: str) -> dict[str, str]:
    docs: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in docstring.splitlines():
        if line and not line.startswith(" "):
            inside = line.strip() in _SECTIONS
        elif inside and (entry := _ENTRY.fullmatch(line)):
            names = entry[1].split(", ")
            docs.update(dict.fromkeys(names, entry[2]))
        elif inside and line.strip() and names:
            docs.update({name: f"{docs[name]} {line.strip()}" for name in names})
    return {name: first_sentence(text) for name, text in docs.items()}


def first_sentence(text: str) -> str:
    """Return the first sentence without reStructuredText markup and without its period."""
    plain = _ROLE.sub(r"\1", " ".join(text.split())).replace("``", "")
    return _SENTENCE_END.split(plain, maxsplit=1)[0].rstrip(";:,")


def summary_of(component: Component) -> str:
    """Return the first sentence of the docstring of a component."""
    return first_sentence((inspect.getdoc(component) or "").split("\n\n")[0])


def dataclass_of(hint: object) -> type | None:
    """Return the dataclass in an annotation, to which a dict without ``type`` is bound; ``None`` without one."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((option for option in options if inspect.isclass(option) and is_dataclass(option)), None)


def limits_of(hint: object) -> dict[str, float]:
    """Return the limits of a number in an annotation, such as ``{"ge": 0, "lt": 1}``."""
    metadata = [
        part
        for item in getattr(hint, "__metadata__", ())
        for part in (item if isinstance(item, Interval) else [item])
    ]
    return {
        name: getattr(limit, name)
        for limit in metadata
        for kind, (name, _) in COMPARISONS.items()
        if isinstance(limit, kind)
    }


def matches_type(value: object, hint: object) -> bool:
    """Return whether a plain value fits a type annotation, and is within the limits of ``Annotated``.

    An int fits ``float``; a bool fits neither; a list fits ``tuple``. A class of another kind accepts every object
    but a plain value, since only a component can be one.
    """
    origin = get_origin(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if origin is Annotated:
        compare = dict(COMPARISONS.values())
        return matches_type(value, get_args(hint)[0]) and all(
            compare[name](value, limit) for name, limit in limits_of(hint).items()
        )
    if origin in (Union, types.UnionType):
        return any(matches_type(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        if isinstance(value, bool) or not isinstance(value, (int, float) if hint is float else int):
            return False
        return hint is int or abs(value) <= sys.float_info.max
    if hint in (str, bool):
        return isinstance(value, hint)
    return _matches_container(value, origin or hint, get_args(hint))


def _matches_container(value: object, bare: object, items: tuple[Any, ...]) -> bool:
    if bare is tuple and items and items[-1] is not Ellipsis:
        return (
            isinstance(value, (list, tuple))
            and len(value) == len(items)
            and all(matches_type(item, hint) for item, hint in zip(value, items, strict=True))
        )
    if inspect.isclass(bare) and issubclass(bare, (list, tuple, Sequence)):
        return isinstance(value, (list, tuple)) and (
            not items or all(matches_type(item, items[0]) for item in value)
        )
    if inspect.isclass(bare) and issubclass(bare, (dict, Mapping)):
        return isinstance(value, Mapping) and (
            len(items) < 2 or all(matches_type(item, items[1]) for item in value.values())
        )
    return value is not None and not isinstance(value, (str, int, float, bool, list, tuple, dict))


def describe_type(hint: object) -> str:
    """Describe an annotation in an error message, such as ``int in [1, 100] or None``."""
    if hint is Any:
        return "a value"
    if get_origin(hint) is Annotated:
        return describe_type(get_args(hint)[0]) + _describe_limits(limits_of(hint))
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(option) for option in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe_type(option) for option in get_args(hint))
    if hint in (None, type(None)):
        return "None"
    if get_args(hint):
        parts = ", ".join("..." if part is Ellipsis else describe_type(part) for part in get_args(hint))
        origin = get_origin(hint)
        return f"{origin.__name__ if inspect.isclass(origin) else ''}[{parts}]"
    return hint.__name__ if inspect.isclass(hint) else _MODULE.sub("", str(hint))


def _describe_limits(limits: Mapping[str, float]) -> str:
    """Describe limits in the notation of intervals: ``in [0, 1)``."""
    texts = {name: _short_number(limit) for name, limit in limits.items()}
    low = f"[{texts['ge']}" if "ge" in texts else f"({texts.get('gt', '-inf')}"
    high = f"{texts['le']}]" if "le" in texts else f"{texts.get('lt', 'inf')})"
    return f" in {low}, {high}" if limits else ""


def _short_number(value: float) -> str:
    """Return a number as text, ``1e9`` instead of ``1000000000``."""
    short = f"{value:g}".replace("e+0", "e")
    return short if float(short) == value else str(value)
