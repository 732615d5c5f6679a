"""Functions that an assistant may call, and the calls that it makes.

Both are written as OpenAI's interface has them, ``{"type": "function", "function": {...}}``, or
bare, as in most ShareGPT data: ``{"name": ..., "arguments": ...}``.
"""

from collections.abc import Mapping
from typing import Any

from xft.data.formats.getters import get_object, get_text, parse_json, type_error
from xft.errors import DataError
from xft.types import ToolCall


def get_tools(row: Mapping[str, Any], field: str) -> tuple[dict[str, Any], ...]:
    """The descriptions of functions in a column: a list, or a text that holds one as JSON.

    Args:
        row: the row.
        field: the column; missing, null and empty say that there are no functions.

    Returns:
        Each as ``{"type": "function", "function": {"name": ..., ...}}``, the rest as it was.

    Raises:
        DataError: it is not a list of described functions.
    """
    value = row.get(field)
    if value is None:
        return ()
    if isinstance(value, str):
        value = parse_json(value, field, "a list of functions") if value.strip() else []
    if not isinstance(value, list):
        raise type_error(field, value, "a list of functions, or one as JSON text")
    return tuple([_tool(each, f"{field}[{number}]") for number, each in enumerate(value, 1)])


def _tool(value: Any, path: str) -> dict[str, Any]:
    outer, function, inside = _unwrap(value, path)
    _name(function, inside)
    parameters = function.get("parameters")
    if parameters is not None:
        get_object(parameters, f"{inside}.parameters")
    return {"type": "function", "function": function} if outer is None else {"type": "function", **outer}


def parse_calls(value: Any, path: str) -> tuple[ToolCall, ...]:
    """One call or several: an object, a list of objects, or a text that holds either as JSON.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, str):
        value = parse_json(value, path, "a function call")
    if not isinstance(value, list):
        return (parse_call(value, path),)
    if not value:
        raise type_error(path, value, "at least one function call")
    return tuple([parse_call(each, f"{path}[{number}]") for number, each in enumerate(value, 1)])


def parse_call(value: Any, path: str) -> ToolCall:
    """One call. Its arguments are an object, or a text that holds one as JSON; none is none.

    Raises:
        DataError: it is something else.
    """
    outer, function, inside = _unwrap(value, path)
    arguments = function.get("arguments")
    where = f"{inside}.arguments"
    if isinstance(arguments, str):
        arguments = parse_json(arguments, where, "an object")
    if arguments is None:
        arguments = {}
    identity = get_text(function if outer is None else outer, "id", path, optional=True)
    return ToolCall(_name(function, inside), get_object(arguments, where), identity)


def _unwrap(value: Any, path: str) -> tuple[dict[str, Any] | None, dict[str, Any], str]:
    """The wrapper, where there is one; the function; and the path of the function."""
    found = get_object(value, path)
    kind = found.get("type")
    inner = found.get("function")
    if kind is not None and kind != "function" and (inner is not None or "name" not in found):
        raise type_error(f"{path}.type", kind, "'function'")
    if inner is None:
        return None, found, path
    return found, get_object(inner, f"{path}.function"), f"{path}.function"


def _name(function: dict[str, Any], path: str) -> str:
    name = get_text(function, "name", path)
    if not name:
        raise DataError(f"field {path}.name: is empty, expected the name of a function")
    return name
