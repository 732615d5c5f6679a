"""Limits of single operations of a template, from the sizes of their operands."""

from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import filters
from jinja2.nodes import EvalContext
from jinja2.utils import pass_eval_context

MAX_CHARS = 1 << 22
"""Maximum length of a string that an operation creates."""


def words(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


TEXT_METHODS = words(
    """
    capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower
    isnumeric isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex
    rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
    """
)
_CONTAINER_METHODS = frozenset(("copy", "count", "get", "index", "items", "keys", "values"))


class NeedsIsolation(Exception):
    """The rendering needs an operation, or an amount of time or memory, that this environment does not bound."""


def check_length(length: int) -> None:
    """Check the length of a string that an operation creates.

    Raises:
        NeedsIsolation: it is too long.
    """
    if length > MAX_CHARS:
        raise NeedsIsolation


def check_method(method: Any, args: tuple[Any, ...]) -> None:
    """Check a call of a method of a text, a container or a date.

    Raises:
        NeedsIsolation: its cost is not bounded by the size of the operands.
    """
    owner, name = method.__self__, method.__name__
    if isinstance(owner, str):
        if name in TEXT_METHODS:
            return
        if name == "replace" and len(args) >= 2:
            _check_replacement(owner, args[0], args[1])
        elif name == "join" and args:
            _check_joined(owner, args[0])
        else:
            raise NeedsIsolation
    elif isinstance(owner, Mapping | list | tuple | range):
        if name not in _CONTAINER_METHODS:
            raise NeedsIsolation
    elif name != "strftime" or any(char.isdigit() for text in args for char in str(text)):  # "%999999999d"
        raise NeedsIsolation


def _check_replacement(text: str, old: object, new: object) -> None:
    if isinstance(old, str) and isinstance(new, str):
        check_length(len(text) + text.count(old) * len(new))


def _check_joined(separator: str, values: object) -> None:
    if not isinstance(values, list | tuple | Mapping | range):
        raise NeedsIsolation
    lengths = [len(value) for value in values if isinstance(value, str)]
    check_length(len(separator) * len(values) + sum(lengths))


@pass_eval_context
def replace(context: EvalContext, text: str, old: str, new: str, count: int | None = None) -> str:
    """Filter ``replace``, which checks the length of the result first."""
    _check_replacement(str(text), str(old), str(new))
    return filters.do_replace(context, text, old, new, count)


@pass_eval_context
def join(context: EvalContext, value: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    """Filter ``join``, which checks the length of the result first."""
    values = list(value)
    _check_joined(str(d), values)
    return filters.sync_do_join(context, values, d, attribute)
