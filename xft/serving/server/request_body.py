"""Read the body of a request, and report mistakes in it by field."""

import asyncio
import json
import math
from collections.abc import Sequence
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import ClientDisconnect

from xft.errors import short_repr
from xft.serving.server.protocol import ApiError
from xft.utils.console import escape_line

MAX_DEPTH = 64
"""Maximum number of nested lists and objects in a body."""
READ_TIMEOUT_S = 30.0
"""Time in which a client must send the body of a request, in seconds."""

Body = TypeVar("Body", bound=BaseModel)

_EXPECTATIONS = {
    "Input should be": "expected",
    "String should have": "expected a text with",
    "String should match": "expected a text that matches",
    "List should have": "expected a list with",
    "Dictionary should have": "expected an object with",
}
"""Beginning of a message of pydantic → beginning of ours."""


async def read_body(request: Request, model: type[Body], max_bytes: int) -> Body:
    """Read and validate the body of a request.

    Raises:
        ApiError: The body is not JSON, too large, too slow, or does not fit ``model``.
    """
    header = request.headers.get("content-type", "")
    if header.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, f"content-type: got {short_repr(header)}; expected 'application/json'")
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            content = await _read_bytes(request, max_bytes)
    except TimeoutError as error:
        raise ApiError(408, f"body: not received within {READ_TIMEOUT_S:g} s; send it faster") from error
    except ClientDisconnect as error:
        raise ApiError(499, "the client disconnected") from error
    return await asyncio.to_thread(parse_body, content, model)


async def _read_bytes(request: Request, max_bytes: int) -> bytes:
    """Return the body; stop reading when it exceeds ``max_bytes``."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            message = f"body: got more than {max_bytes:,} bytes; expected at most that. Shorten the request"
            raise ApiError(413, message)
    return bytes(content)


def parse_body(content: bytes, model: type[Body]) -> Body:
    """Parse and validate a body.

    Raises:
        ApiError: The body is not JSON, nested too deeply, or does not fit ``model``; names the field.
    """
    try:
        value = json.loads(content)
    except RecursionError as error:
        raise ApiError(400, f"body: nested too deeply; expected at most {MAX_DEPTH} levels") from error
    except ValueError as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ApiError(400, f"body: not valid JSON ({reason})") from error
    if not isinstance(value, dict):
        raise ApiError(400, f"body: got {short_repr(value)}; expected a JSON object")
    _check_values(value)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _api_error(error.errors(include_url=False)[0]) from error


def _check_values(body: object) -> None:
    """Check properties of all values in a body, also of those that ``model`` does not describe.

    Raises:
        ApiError: A value is nested too deeply, is not a finite number, or has characters that UTF-8 cannot encode.
    """
    stack: list[tuple[object, tuple[int | str, ...]]] = [(body, ())]
    while stack:
        value, path = stack.pop()
        if isinstance(value, str):
            if not value.isascii() and not _is_unicode(value):
                raise _mistake(path, value, "expected text without lone surrogates")
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise _mistake(path, value, "expected a finite number")
        elif isinstance(value, list | dict):
            if len(path) >= MAX_DEPTH:
                raise _mistake(path[:1], value, f"expected at most {MAX_DEPTH} nested lists and objects")
            items = enumerate(value) if isinstance(value, list) else value.items()
            for key, item in items:
                if isinstance(key, str) and not _is_unicode(key):
                    raise _mistake((*path, key), key, "expected a name without lone surrogates")
                stack.append((item, (*path, key)))


def _is_unicode(text: str) -> bool:
    """Whether UTF-8 can encode a text: it has no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _api_error(error: ErrorDetails) -> ApiError:
    path = error["loc"]
    if error["type"] == "missing":
        return ApiError(400, f"{_format_path(path)}: is missing", param=str(path[0]))
    if error["type"] == "extra_forbidden":
        return ApiError(
            400, f"{_format_path(path)}: is not supported; remove it", param=_format_path(path[:1])
        )
    expectation = error["msg"]
    for start, replacement in _EXPECTATIONS.items():
        if expectation.startswith(start):
            expectation = replacement + expectation.removeprefix(start)
    return _mistake(path, error["input"], expectation)


def _mistake(path: Sequence[int | str], got: object, expectation: str) -> ApiError:
    message = f"{_format_path(path) or 'body'}: got {short_repr(got)}; {expectation}"
    return ApiError(400, message, param=_format_path(path[:1]) or None)


def _format_path(path: Sequence[int | str]) -> str:
    """Format a path as ``messages[1].content``, counted from 1 as in messages about data."""
    text = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return escape_line(text if len(text) <= 120 else f"{text[:117]}...")
