"""Functions that an assistant may call, and the calls that it makes.

Both are written as OpenAI's interface has them, ``{"type": "function", "function": {...}}``, or
bare, as in most ShareGPT data: ``{"name": ..., "arguments": ...}``.
"""

from collections.abc import Mapping
from typing import Any

from xft.data.formats.getters import json_of, misfit, object_of, text_of
from xft.errors import DataError
from xft.types import ToolCall


def tools_of(row: Mapping[str, Any], field: str) -> tuple[dict[str, Any], ...]:
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
        value = json_of(value, field, "a list of functions") if value.strip() else []
    if not isinstance(value, list):
        raise misfit(field, value, "a list of functions, or one as JSON text")
    return tuple([_tool(each, f"{field}[{number}]") for number, each in enumerate(value, 1)])


def _tool(value: Any, path: str) -> dict[str, Any]:
    outer, function, inside = _unwrap(value, path)
    _name(function, inside)
    parameters = function.get("parameters")
    if parameters is not None:
        object_of(parameters, f"{inside}.parameters")
    return {"type": "function", "function": function} if outer is None else {"type": "function", **outer}


def calls_of(value: Any, path: str) -> tuple[ToolCall, ...]:
    """One call or several: an object, a list of objects, or a text that holds either as JSON.

    Raises:
        DataError: it is something else.
    """
    if isinstance(value, str):
        value = json_of(value, path, "a function call")
    if not isinstance(value, list):
        return (call_of(value, path),)
    if not value:
        raise misfit(path, value, "at least one function call")
    return tuple([call_of(each, f"{path}[{number}]") for number, each in enumerate(value, 1)])


def call_of(value: Any, path: str) -> ToolCall:
    """One call. Its arguments are an object, or a text that holds one as JSON; none is none.

    Raises:
        DataError: it is something else.
    """
    outer, function, inside = _unwrap(value, path)
    arguments = function.get("arguments")
    where = f"{inside}.arguments"
    if isinstance(arguments, str):
        arguments = json_of(arguments, where, "an object")
    if arguments is None:
        arguments = {}
    identity = text_of(function if outer is None else outer, "id", path, optional=True)
    return ToolCall(_name(function, inside), object_of(arguments, where), identity)


def _unwrap(value: Any, path: str) -> tuple[dict[str, Any] | None, dict[str, Any], str]:
    """The wrapper, where there is one; the function; and the path of the function."""
    found = object_of(value, path)
    kind = found.get("type")
    inner = found.get("function")
    if kind is not None and kind != "function" and (inner is not None or "name" not in found):
        raise misfit(f"{path}.type", kind, "'function'")
    if inner is None:
        return None, found, path
    return found, object_of(inner, f"{path}.function"), f"{path}.function"


def _name(function: dict[str, Any], path: str) -> str:
    name = text_of(function, "name", path)
    if not name:
        raise DataError(f"field {path}.name: is empty, expected the name of a function")
    return name
