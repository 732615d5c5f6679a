"""Read fields of a row, or raise an error with the path of the field, the value and the expected type.

Paths look like ``messages[3].content``; turns are counted from 1.
"""

import ast
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from xft.data.formats.tracked_row import TrackedRow
from xft.data.sources.parse import InvalidJSON, decode_json
from xft.errors import DataError, list_names, short_repr
from xft.types import Row


def field_error(
    path: str,
    problem: str,
    expected: str,
    got: object = None,
    fix: str = "",
    kind: type[DataError] = DataError,
) -> DataError:
    """Create the error for a field of a row; the caller of the format adds file and line.

    Args:
        path: path of the field.
        problem: first part of the message.
        expected: accepted values, as a phrase.
        got: value of the field.
        fix: advice, as a phrase.
        kind: class of the error.
    """
    message = f"field {path}: {problem}; expected {expected}" + (f"; {fix}" if fix else "")
    return kind(message, key=path, got=got, expected=expected, fix=fix)


def type_error(path: str, value: object, expected: str, fix: str = "") -> DataError:
    """Create the error for a value of the wrong type."""
    type_name = "" if value is None else f" ({type(value).__name__})"
    return field_error(path, f"got {short_repr(value)}{type_name}", expected, value, fix)


def missing_field_error(
    row: Mapping[str, Any], field: str, parent: str = "", expected: str = "text"
) -> DataError:
    """Create the error for a field that is missing or null. ``parent`` is the path of ``row``."""
    path, holder = (f"{parent}.{field}", "it") if parent else (field, "the row")
    if field in row:
        return field_error(path, "is null", expected)
    columns = list_names(row) or "no columns"
    return field_error(path, f"is missing ({holder} has {columns})", expected)


def get_text(row: Mapping[str, Any], field: str, parent: str = "", optional: bool = False) -> str:
    """Return the text of a field; empty if an optional field is missing or null.

    Args:
        row: the row, or an object in it.
        field: key of the text.
        parent: path of ``row`` within the whole row; empty for the row itself.
        optional: whether the field may be missing or null.

    Raises:
        DataError: the value is not a text.
    """
    value = row.get(field)
    if isinstance(value, str):
        return str(value)  # of a column of TurnsAsText, too
    if value is None:
        if optional:
            return ""
        raise missing_field_error(row, field, parent)
    raise type_error(f"{parent}.{field}" if parent else field, value, "text")


def get_list(row: Row, field: str, of: str = "turns") -> list[Any]:
    """Return the list of a field. The list may be a text: JSON, or a Python literal as pandas writes it into tables.

    Raises:
        DataError: the list is missing, empty or another type.
    """
    value = row.get(field)
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parse_list(value, field, f"a list of {of}")
        if isinstance(row, TrackedRow):
            value = row.track_turns(field, value)
    if isinstance(value, list) and value:
        return value
    if field not in row:
        raise missing_field_error(row, field, expected=f"a list of {of}")
    raise type_error(field, value, f"a list of {of}")


def get_object(value: object, path: str) -> dict[str, Any]:
    """Return a value that is an object.

    Raises:
        DataError: the value has another type.
    """
    if not isinstance(value, dict):
        raise type_error(path, value, "an object")
    return value


_TRUE, _FALSE = frozenset({"true", "1", "1.0", "yes"}), frozenset({"false", "0", "0.0", "no"})


def parse_bool(value: object, path: str) -> bool:
    """Parse ``true``, ``false``, 0, 1, or one of these as text (also ``0.0``, ``1.0``, ``yes``, ``no``), as in tables.

    Raises:
        DataError: the value is anything else.
    """
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise type_error(path, value, "true or false (or 1 or 0)")


def parse_float(value: Any, path: str) -> float:
    """Parse a finite number, or a number as text, as in tables.

    Raises:
        DataError: the value is anything else.
    """
    is_number = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    try:
        number = float(value) if is_number else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise type_error(path, value, "a number")
    return number


def parse_list(text: str, path: str, expected: str) -> Any:
    """Parse JSON, or a Python literal, in a text field. A literal is never executed.

    Raises:
        DataError: the text is neither.
    """
    try:
        return parse_json(text, path, expected)
    except DataError as error:
        if isinstance(error.__cause__, InvalidJSON):
            raise  # it is JSON, for instance with a key twice
        with suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            if len(text) <= _LONGEST_LITERAL:
                return ast.literal_eval(text.strip())
        raise error


_LONGEST_LITERAL = 1 << 20
"""Characters of the longest Python literal; the parser takes hundreds of bytes for each."""


def parse_json(text: str, path: str, expected: str) -> Any:
    """Parse JSON in a text field.

    Raises:
        DataError: the text is not JSON, or has what :mod:`xft.data.sources.parse` refuses, such as a key twice.
    """
    try:
        return decode_json(text)
    except (ValueError, InvalidJSON) as error:
        raise field_error(path, f"got {short_repr(text)} ({error})", f"{expected} as JSON", text) from error
