"""Read the content of a turn: a text, or a list of parts.

Parts are those of OpenAI (``{"type": "text", "text": ...}``, ``image_url``), of transformers (``image``), of Anthropic
(``thinking``) and of LLaMA-Factory v1 (``{"type": "text", "value": ...}``, ``reasoning``, ``tool_call``). Video and audio
are not supported: a turn or a part that holds one is an error, because the answer would be trained without what it
describes. So are the keys of a turn that hold an image: it is a part, or in a column of the row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xft.data.formats.getters import field_error, get_object, get_text
from xft.data.formats.images import PART_TYPES, parse_image_part
from xft.data.formats.tool_calls import parse_calls
from xft.data.formats.tracked_row import TrackedRow
from xft.data.formats.turn_keys import MEDIA_KEYS
from xft.errors import DataError, short_repr
from xft.types import IMAGE_PLACE, Image, ToolCall

NO_MEDIA = "video, audio and images are not used here: remove them, or data.on_invalid='quarantine' skips such rows"
_TEXT_KEYS = {
    "text": ("text", "value"),
    "reasoning": ("reasoning", "value", "text"),
    "thinking": ("thinking", "value", "text"),
}
"""Type of a part to the keys that may hold its text."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a turn says.

    Attributes:
        text: the concatenated text parts, with an ``IMAGE_PLACE`` for each part that holds an image.
        reasoning: the concatenated reasoning parts.
        tool_calls: calls in parts.
        images: the images of these parts; ``None`` for a part without one.
    """

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    images: tuple[Image | None, ...] = ()


def media_error(path: str, value: object) -> DataError:
    """Create the error for a field that holds an image, a video or audio."""
    return field_error(path, f"got {short_repr(value)}", "text only", value, NO_MEDIA)


_MEDIA_KEYS = frozenset(MEDIA_KEYS)


def check_media(turn: dict[str, Any], path: str) -> None:
    """Check that no key of a turn holds an image, a video or audio.

    Raises:
        DataError: a key does.
    """
    keys = dict.keys(turn)
    if _MEDIA_KEYS.isdisjoint(keys):
        return
    for key in MEDIA_KEYS:
        if turn.get(key):
            raise media_error(f"{path}.{key}", turn[key])


def check_media_columns(row: TrackedRow) -> None:
    """Check that a format has not left out an image, a video or audio of a row.

    Raises:
        DataError: a column holds one, and the format has not read it.
    """
    for name in MEDIA_KEYS:
        if dict.get(row, name) and name not in row.read:
            raise media_error(name, dict.get(row, name))


def get_content(turn: Mapping[str, Any], key: str, path: str, optional: bool) -> Content:
    """Read the content of a turn.

    Args:
        turn: the turn.
        key: its key of the content.
        path: path of the turn in the row.
        optional: whether the content may be missing or null.

    Raises:
        DataError: the content is neither a text nor a list of supported parts.
    """
    value = turn.get(key)
    if not isinstance(value, list) or not value:
        return Content(get_text(turn, key, path, optional))
    texts: dict[str, list[str]] = {"text": [], "reasoning": []}
    calls: list[ToolCall] = []
    images: list[Image | None] = []
    for number, item in enumerate(value, 1):
        where = f"{path}.{key}[{number}]"
        part = get_object(item, where)
        kind = get_text(part, "type", where)
        if kind == "tool_call":
            calls += parse_calls(part.get("value"), f"{where}.value")
        elif kind in PART_TYPES:
            images.append(parse_image_part(part, where))
            texts["text"].append(IMAGE_PLACE)
        elif kind in _TEXT_KEYS:
            name = next((name for name in _TEXT_KEYS[kind] if name in part), _TEXT_KEYS[kind][0])
            texts["text" if kind == "text" else "reasoning"].append(get_text(part, name, where))
        else:
            expected = f"one of {', '.join(map(repr, [*_TEXT_KEYS, *PART_TYPES, 'tool_call']))}"
            raise field_error(f"{where}.type", f"got {short_repr(kind)}", expected, kind, NO_MEDIA)
    return Content("".join(texts["text"]), "".join(texts["reasoning"]), tuple(calls), tuple(images))
