"""The format ``auto``: columns and turns decide."""

from typing import Any

from xft.data.formats.detect import bound_format, detect_format
from xft.registry import register
from xft.types import Row


@register("format", "auto")
def auto(row: Row) -> Any:
    """Any of the formats below, chosen by the columns and turns of the first rows, for ``data.type``.

    A dataset config replaces it by the format that it chooses. Called itself, it reads a row as instruction data, by this
    row alone.

    Raises:
        DataError: no format fits, or several.

    Example:
        ``{"question": "Hi", "answer": "Hello"}``
    """
    return bound_format(detect_format([row], "instruction", "the row"))(row)
