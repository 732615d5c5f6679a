"""Read tools (functions that an assistant may call) and tool calls.

Both may be wrapped as in OpenAI's API, ``{"type": "function", "function": {...}}``, or bare, as in most ShareGPT
data: ``{"name": ..., "arguments": ...}``.
"""

from collections.abc import Mapping
from typing import Any

from xft.data.formats.getters import field_error, get_object, get_text, parse_json, type_error
from xft.types import ToolCall


def get_tools(row: Mapping[str, Any], field: str) -> tuple[dict[str, Any], ...]:
    """Read the tools in a column: a list, or a list as JSON text.

    Args:
        row: the row.
        field: the column; missing, null or empty if there are no tools.

    Returns:
        Tools as ``{"type": "function", "function": {"name": ..., ...}}``, with all other keys unchanged.

    Raises:
        DataError: the value is not a list of tools.
    """
    value = row.get(field)
    if value is None:
        return ()
    if isinstance(value, str):
        value = parse_json(value, field, "a list of functions") if value.strip() else []
    if not isinstance(value, list):
        raise type_error(field, value, "a list of functions, or one as JSON text")
    return tuple([_tool(tool, f"{field}[{number}]") for number, tool in enumerate(value, 1)])


def _tool(value: object, path: str) -> dict[str, Any]:
    # A copy reads all keys of a tracked row: templates render them.
    outer, function, function_path = _unwrap(dict(get_object(value, path)), path)
    _name(function, function_path)
    parameters = function.get("parameters")
    if parameters is not None:
        get_object(parameters, f"{function_path}.parameters")
    return {"type": "function", "function": function} if outer is None else {"type": "function", **outer}


def parse_calls(value: object, path: str) -> tuple[ToolCall, ...]:
    """Parse one call or several: an object, a list of objects, or either as JSON text.

    Raises:
        DataError: the value is none of these.
    """
    if isinstance(value, str):
        value = parse_json(value, path, "a function call")
    if not isinstance(value, list):
        return (parse_call(value, path),)
    if not value:
        raise type_error(path, value, "at least one function call")
    return tuple([parse_call(call, f"{path}[{number}]") for number, call in enumerate(value, 1)])


def parse_call(value: object, path: str) -> ToolCall:
    """Parse one call. Its arguments are an object, an object as JSON text, or missing.

    Raises:
        DataError: the value is not a call.
    """
    outer, function, function_path = _unwrap(value, path)
    arguments = function.get("arguments")
    where = f"{function_path}.arguments"
    if isinstance(arguments, str):
        arguments = parse_json(arguments, where, "an object")
    if arguments is None:
        arguments = {}
    identity = get_text(function if outer is None else outer, "id", path, optional=True)
    return ToolCall(_name(function, function_path), get_object(arguments, where), identity)


def _unwrap(value: object, path: str) -> tuple[dict[str, Any] | None, dict[str, Any], str]:
    """Return the wrapper or ``None``, the function, and the path of the function."""
    outer = get_object(value, path)
    kind = outer.get("type")
    function = outer.get("function")
    if kind is not None and kind != "function" and (function is not None or "name" not in outer):
        raise type_error(f"{path}.type", kind, "'function'")
    if function is None:
        return None, outer, path
    return outer, get_object(function, f"{path}.function"), f"{path}.function"


def _name(function: dict[str, Any], path: str) -> str:
    name = get_text(function, "name", path)
    if not name:
        raise field_error(f"{path}.name", "is empty", "the name of a function", name)
    return name
