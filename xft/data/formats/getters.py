"""Fields of a row: read, or refused with what was got and what was expected.

A path such as ``messages[3].content`` says where a value stands; turns are counted from 1.
"""

import json
import reprlib
from collections.abc import Mapping
from typing import Any, NoReturn

from xft.errors import DataError
from xft.types import Row

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 4


def short_repr(value: Any) -> str:
    """A value as it is printed in a message: short, on one line, however large it is."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to write out a number of thousands of digits
        return "a number that is too long to print"


def type_error(path: str, value: Any, expected: str) -> DataError:
    """The error for a value of the wrong kind."""
    got = short_repr(value) if value is None else f"{short_repr(value)} ({type(value).__name__})"
    return DataError(f"field {path}: got {got}, expected {expected}")


def missing_field_error(
    row: Mapping[str, Any], field: str, where: str = "", expected: str = "text"
) -> DataError:
    """The error for a field that is not there, or is null. ``where`` is the path of ``row``."""
    path, holder = (f"{where}.{field}", "it") if where else (field, "the row")
    if field in row:
        return DataError(f"field {path}: is null, expected {expected}")
    columns = ", ".join([short_repr(each) for each in row]) or "no columns"
    return DataError(f"field {path}: is missing ({holder} has {columns}), expected {expected}")


def get_text(row: Mapping[str, Any], field: str, where: str = "", optional: bool = False) -> str:
    """The text of a field; empty where an optional one is missing or null.

    Args:
        row: the row, or an object in it.
        field: its key.
        where: the path of ``row`` within the whole row; empty for the row itself.
        optional: whether the field may be missing or null.

    Raises:
        DataError: it holds something else.
    """
    value = row.get(field)
    if isinstance(value, str):
        return value
    if value is None:
        if optional:
            return ""
        raise missing_field_error(row, field, where)
    raise type_error(f"{where}.{field}" if where else field, value, "text")


def get_list(row: Row, field: str, of: str = "turns") -> list[Any]:
    """The list of a field, which must not be empty.

    Raises:
        DataError: it is missing, empty or something else.
    """
    value = row.get(field)
    if isinstance(value, list) and value:
        return value
    if field not in row:
        raise missing_field_error(row, field, expected=f"a list of {of}")
    raise type_error(field, value, f"a list of {of}")


def get_object(value: Any, path: str) -> dict[str, Any]:
    """Check that a value is an object.

    Raises:
        DataError: it is not.
    """
    if not isinstance(value, dict):
        raise type_error(path, value, "an object")
    return value


def parse_bool(value: Any, path: str) -> bool:
    """A switch: ``true``, ``false``, 0, 1, or one of these as a text, as tables have it.

    Raises:
        DataError: it is anything else.
    """
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    raise type_error(path, value, "true or false (or 1 or 0)")


def parse_float(value: Any, path: str) -> float:
    """A number, or a text that is one, as tables have it.

    Raises:
        DataError: it is anything else.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    try:
        return float(value if isinstance(value, str) else "")
    except ValueError as error:
        raise type_error(path, value, "a number") from error


def parse_json(text: str, path: str, expected: str) -> Any:
    """What a text says as JSON.

    Raises:
        DataError: it is not JSON, or says something twice, of which one would be lost.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise DataError(
                f"field {path}: got {short_repr(text)}, an object with a key twice, expected each key once"
            )
        return found

    def no_number(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON number")

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise DataError(
            f"field {path}: got {short_repr(text)}, expected {expected} as JSON ({reason})"
        ) from error
