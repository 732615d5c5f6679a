"""Read the images of a row: columns, parts of a content, and the places in texts that refer to them."""

import base64
import binascii
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from xft.data.formats.getters import field_error, get_object, get_text, parse_list, type_error
from xft.types import IMAGE_PLACE, Image, Message, Row

COLUMNS = ("images", "image")
"""Columns of images: a list, or a single one."""
MARK = "<image>"
"""Text that stands for an image of the columns, as in LLaVA and ShareGPT."""
PART_TYPES = ("image", "image_url", "input_image")
"""Types of the parts that hold an image."""
_PART_KEYS = ("image", "image_url", "url", "path", "base64", "value")
_EXPECTED = "a path, a data URL, bytes, or an object with bytes or path"
_MARK = re.compile(rf"^{MARK}\n|\n{MARK}$|{MARK}\n|{MARK}")
_DATA_URL = re.compile(r"data:image/[\w.+-]+(;[\w=.+-]+)*;base64,", re.ASCII)


def get_images(row: Row, texts: Collection[str | None] = ()) -> list[Image]:
    """Read the columns ``images`` and ``image`` of a row, each a list or a single image.

    Args:
        row: the row.
        texts: columns that the format reads as text.

    Raises:
        DataError: a value is not an image.
    """
    images: list[Image] = []
    for column in COLUMNS:
        if column in texts:
            continue
        value = row.get(column)
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = parse_list(value, column, "a list of images")
        if isinstance(value, list):
            images += [parse_image(item, f"{column}[{number}]") for number, item in enumerate(value, 1)]
        elif value is not None and value != "":
            images.append(parse_image(value, column))
    return images


def parse_image(value: object, field: str) -> Image:
    """Parse an image: a path, a data URL, bytes, or an object with ``bytes`` or ``path``, as ``datasets`` stores it.

    Raises:
        DataError: the value is none of these, or an address in the network.
    """
    if isinstance(value, Mapping):
        filled = {key: item for key, item in value.items() if item is not None}
        for key in ("bytes", "path", "url"):
            if key in filled:
                return replace(parse_image(filled[key], field), field=field)
        raise type_error(field, value, _EXPECTED)
    if isinstance(value, bytes) and value:
        return Image(data=value, field=field)
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise type_error(field, value, _EXPECTED)
    if re.match(r"(https?|ftp|s3|gs|hf)://", value, re.IGNORECASE):
        raise field_error(
            field, f"got {value!r:.80}", "a file, since no image is downloaded", value, "download it first"
        )
    if value.startswith("data:"):
        return Image(data=_decode_data_url(value, field), field=field)
    return Image(path=value.removeprefix("file://"), field=field)


def _decode_data_url(url: str, field: str) -> bytes:
    header = _DATA_URL.match(url)
    if header is None:
        raise field_error(field, f"got {url!r:.60}", "a data URL of an image in base64", url[:60])
    return _decode_base64(url[header.end() :], field)


def _decode_base64(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise field_error(field, f"is not base64 ({error})", "an image in base64", text[:60]) from error


def parse_image_part(part: Mapping[str, Any], path: str) -> Image | None:
    """Parse a part of a content that holds an image; ``None`` if it refers to the next image of the columns.

    Raises:
        DataError: the part holds something else.
    """
    keys = [key for key in _PART_KEYS if part.get(key) is not None]
    if not keys:
        return None
    key, where = keys[0], f"{path}.{keys[0]}"
    if len(keys) > 1:
        raise field_error(path, f"got {' and '.join(keys)}", "one of them")
    if key == "base64":
        return Image(data=_decode_base64(get_text(part, key, path), where), field=where)
    value = part[key]
    if key == "image_url" and isinstance(value, Mapping):
        value = get_text(get_object(value, where), "url", where)
    return parse_image(value, where)


def place_images(
    messages: Sequence[Message], parts: Sequence[Sequence[Image | None]], images: Sequence[Image], path: str
) -> list[Message]:
    """Assign the images of the columns to their places in the turns.

    A place is a part without an image of its own or, if the columns hold images, the mark ``<image>`` in a text. A line
    break between the mark and the text belongs to the mark, since chat templates separate both in their own way.

    Args:
        messages: turns, with an ``IMAGE_PLACE`` for each part that holds an image.
        parts: images of these parts; ``None`` for a part without one.
        images: images of the columns.
        path: path of the turns in the row.

    Raises:
        DataError: the numbers of places and images differ, or an answer shows an image.
    """
    if not images and not any(parts):
        return list(messages)
    pending = iter(images)
    placed, num_places = [], 0
    for number, (message, shown) in enumerate(zip(messages, parts, strict=True), 1):
        content, filled = message.content, list(shown)
        if images and not filled and MARK in content and message.role != "assistant":
            content = _MARK.sub(IMAGE_PLACE, content)
            filled = [None] * content.count(IMAGE_PLACE)
        num_places += filled.count(None)
        if filled and message.role == "assistant":
            raise field_error(
                f"{path}[{number}]",
                "an answer shows an image",
                "images in questions, instructions or results",
            )
        turn_images = tuple(_fill(filled, pending))
        placed.append(replace(message, content=content, images=turn_images) if filled else message)
    if num_places != len(images):
        problem = f"got {num_places} places for {len(images)} images"
        fix = f"write {MARK} into the text where an image belongs"
        raise field_error(
            images[0].field if images else path, problem, "one place for an image", num_places, fix
        )
    return placed


def image_message(text: str, images: Sequence[Image]) -> Message:
    """Return a question about images, which come first unless the text has a mark for each.

    Raises:
        DataError: the numbers of marks and images differ.
    """
    if images and MARK not in text:
        text = f"{MARK}\n" * len(images) + text
    return place_images([Message("user", text)], [()], images, "question")[0]


def _fill(filled: Sequence[Image | None], pending: Iterator[Image]) -> Iterator[Image]:
    for image in filled:
        if image is not None:
            yield image
        elif (following := next(pending, None)) is not None:
            yield following
