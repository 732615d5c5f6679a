"""JSON, taken strictly: what cannot be told apart afterwards is refused.

Beyond what Python's own decoder refuses, these are errors: a key that stands twice in one object
(Python keeps the last and drops the others), ``NaN`` and ``Infinity`` (no JSON, RFC 8259), a number
that is too large for a float (Python makes it infinite), and nesting beyond what the code that
handles the row afterwards can walk.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

from xft.data.sources.location import Raw, RowLocation, abbreviate, source_error, undecodable
from xft.errors import DataError
from xft.types import Row

DEEPEST = 100
"""How deep a row may be nested."""


class InvalidJSON(DataError):
    """A value that is not taken, without its place. What follows it can be read.

    Args:
        problem: first part of the message.
        expected: accepted values, as a phrase.
        fix: advice, as a phrase.
    """

    def __init__(self, problem: str, expected: str = "", fix: str = "") -> None:
        parts = [problem, *([f"expected {expected}"] if expected else []), *([fix] if fix else [])]
        super().__init__("; ".join(parts), got=problem, expected=expected, fix=fix)


def located(location: RowLocation, error: DataError, hint: str = "") -> DataError:
    """Return the error with its place in front."""
    return DataError(
        f"{location}: {error}{hint}",
        key=str(location),
        got=error.got,
        expected=error.expected,
        fix=error.fix,
    )


def _object(pairs: list[tuple[str, Any]]) -> Row:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidJSON(
                    f"the key {abbreviate(name)} stands twice in one object", fix="take one out"
                )
            seen.add(name)
    return fields


def _constant(name: str) -> float:
    raise InvalidJSON(f"{name} is not JSON", fix="write null, or leave the key out")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidJSON(f"the number {abbreviate(text)} is too large", fix="write it as text")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)


def too_many_digits() -> InvalidJSON:
    """The error of an integer that Python does not convert (4,300 digits)."""
    return InvalidJSON("a number has too many digits", fix="write it as text")


def too_deep() -> InvalidJSON:
    """The error of a row with too many levels."""
    return InvalidJSON("nested too deep", f"at most {DEEPEST} levels")


def check(value: object, brackets: int) -> Row:
    """Check that a value is an object and not nested too deep.

    Args:
        value: as decoded.
        brackets: how many opening brackets its text has; no value is deeper than that.

    Raises:
        InvalidJSON: it is something else.
    """
    if brackets > DEEPEST and _deeper(value, DEEPEST):
        raise too_deep()
    if not isinstance(value, dict):
        raise InvalidJSON(f"got {abbreviate(value)}", 'an object such as {"instruction": ...}')
    return value


def _deeper(value: object, levels: int) -> bool:
    """Whether a value has more levels. Level by level: no recursion that could run out."""
    level: Sequence[Any] = [value]
    for _ in range(levels + 1):
        level = [
            child
            for container in level
            if isinstance(container, (dict, list))
            for child in (container.values() if isinstance(container, dict) else container)
        ]
        if not level:
            return False
    return True


def parse(location: RowLocation, raw: Raw) -> Row:
    """The row of a record.

    Args:
        origin: the place, for the message.
        raw: what the reader gave: a line to parse, a row, or an error.

    Raises:
        DataError: the line is not an object of JSON in UTF-8, or the record was an error already.
            The message begins with the place.
    """
    if isinstance(raw, dict):
        return raw
    if isinstance(raw, DataError):
        raise raw
    line = raw.rstrip(b"\r\n")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise undecodable(location, error) from error
    try:
        return check(decode_json(text), line.count(b"{") + line.count(b"["))
    except json.JSONDecodeError as error:
        hint = _hint(text, cut_off=not raw.endswith(b"\n"))
        problem = f"broken JSON at column {error.colno} ({error.msg}); got {abbreviate(text)}"
        raise source_error(
            location, problem, f"one whole object a line{hint}", got=abbreviate(text)
        ) from error
    except InvalidJSON as error:
        hint = _hint(text) if text.lstrip().startswith("[") else ""
        raise located(location, error, hint) from error


def decode_json(text: str) -> Any:
    """The value that a text is.

    Raises:
        InvalidJSON: one of the things that the head of this file names.
        json.JSONDecodeError: it is not JSON.
    """
    try:
        return DECODER.decode(text)
    except RecursionError as error:
        raise too_deep() from error
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise too_many_digits() from error


def _hint(text: str, cut_off: bool = False) -> str:
    """What may have gone wrong with a line, where it can be guessed."""
    if text.startswith("\ufeff"):
        return "; a byte order mark stands before it, as where two files were joined: take it out"
    if "\0" in text:
        return "; it holds NUL bytes: the file is damaged"
    if text.lstrip().startswith("["):
        return "; a file that holds one list is named .json"
    if cut_off:
        return "; the file ends here without a line break: it may have been cut off"
    return ""
