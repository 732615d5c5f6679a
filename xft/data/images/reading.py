"""Inspect image files when a row is encoded, and decode their pixels when a batch is built.

Rules:

- JPEG, PNG, WebP, BMP, GIF and TIFF are supported. Any other file is an error, as is an empty, truncated or damaged one
  (:mod:`xft.data.images.integrity`).
- It is an error if a side has less than ``MIN_SIDE`` pixels (processors mistake it for color channels), if one side is
  more than ``MAX_RATIO`` times the other, or if there are more than ``MAX_PIXELS`` pixels (decompression bombs).
- The EXIF orientation is applied. Of an animation, the first frame is used. Transparent pixels become white,
  16-bit values are divided by 256, and every color mode (CMYK, palette, gray) becomes RGB.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xft.data.formats.getters import field_error
from xft.data.formats.images import parse_image
from xft.data.images.integrity import check_intact, check_not_truncated
from xft.data.store.token_store import digest
from xft.errors import DataError
from xft.types import Image, Message, Messages

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MIN_SIDE = 4
MAX_RATIO = 200
MAX_PIXELS = 100_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # MPO is read as JPEG
_ORIENTATION = 0x0112
_TRANSPOSITIONS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""Value of the EXIF orientation to the operation that turns the picture upright. From 5 on, the sides are swapped."""
_MODES = ("RGB", "L")
_FOLDER_FIX = "relative paths start at data.image_folder, by default the folder of the data file"


def inspect_image(image: Image, folder: Path) -> tuple[Image, list[str]]:
    """Read an image file; return its size, its digest and the planned conversions.

    The whole file is read. A truncated or structurally damaged one is an error; damaged compressed pixels of a JPEG pass.

    Args:
        image: as the format returned it.
        folder: folder of relative paths.

    Returns:
        The image with an absolute path, size and digest; and the conversions of its pixels: ``turned``, ``animated``,
        ``converted``.

    Raises:
        DataError: the image violates a rule of this module.
    """
    modified = 0
    data, path = image.data, image.path
    if path:
        fix = "" if os.path.isabs(path) else _FOLDER_FIX
        path = os.path.join(os.getcwd(), folder, path)
        data, modified = _read_file(path, image.field, fix)
    picture = _open(data, image.field)
    check_not_truncated(data, picture.format or "", image.field)
    try:
        orientation = _orientation(picture)
        frames = getattr(picture, "n_frames", 1)
    except Exception as error:  # Parsers of headers raise errors of many types.
        raise field_error(image.field, f"has a corrupt header ({error})", "an image") from error
    width, height = picture.size[::-1] if orientation >= 5 else picture.size
    _check_size(height, width, image.field)
    check_intact(data, picture, image.field)
    changes = ["turned"] if orientation > 1 else []
    changes += ["animated"] if frames > 1 and picture.format != "MPO" else []
    changes += ["converted"] if picture.mode not in _MODES or "transparency" in picture.info else []
    return Image(path, image.data, image.field, height, width, digest(data), modified), changes


def inspect_images(messages: Messages, folder: Path) -> tuple[list[Message], Counter[str]]:
    """Inspect the images of messages with :func:`inspect_image`.

    Returns:
        The messages, whose images have a size and a digest; and the number of images for each conversion, by its name
        in the data report.

    Raises:
        DataError: an image cannot be used.
    """
    changes: Counter[str] = Counter()
    inspected = []
    for message in messages:
        if not message.images:
            inspected.append(message)
            continue
        results = [inspect_image(image, folder) for image in message.images]
        inspected.append(replace(message, images=tuple([image for image, _ in results])))
        changes.update([f"images_{change}" for _, names in results for change in names])
    return inspected, changes


def open_image(value: object, folder: Path, field: str) -> Image:
    """Parse an image outside of a data set, and inspect it.

    Args:
        value: as in :func:`~xft.data.formats.images.parse_image`.
        folder: folder of relative paths.
        field: name of the value, for errors.

    Raises:
        DataError: the value is not an image, or the image cannot be used.
    """
    image = parse_image(value, field)
    return inspect_image(replace(image, path=image.path and str(folder.absolute() / image.path)), Path())[0]


def decode_pixels(image: Image) -> Image:
    """Return an image with its pixels in place of the bytes of its file.

    Raises:
        DataError: as in :func:`read_pixels`.
    """
    return replace(image, path="", data=b"", pixels=np.asarray(read_pixels(image)))


def read_pixels(image: Image) -> Picture:
    """Decode the pixels of an image as RGB, or return those that are decoded already.

    Args:
        image: as ``inspect_image`` returned it.

    Raises:
        DataError: the image cannot be decoded, or its file was changed since the data was prepared.
    """
    from PIL import Image as Pillow

    if image.pixels is not None:
        return Pillow.fromarray(image.pixels)
    where = image.field or image.path
    data = _read_file(image.path, where)[0] if image.path else image.data
    if digest(data) != image.digest:
        raise field_error(
            where, "was changed since the data was prepared", "the same file", image.path, "start again"
        )
    picture = _open(data, where)
    try:
        orientation = _orientation(picture)
        picture.load()
        if orientation > 1:
            picture = picture.transpose(Pillow.Transpose[_TRANSPOSITIONS[orientation]])
        picture = _to_rgb(picture)
    except Exception as error:
        raise field_error(where, f"cannot be decoded ({error})", "an image", image.path) from error
    if (picture.height, picture.width) != image.size:
        raise field_error(
            where, f"decodes to {picture.height}x{picture.width}", f"{image.height}x{image.width}"
        )
    return picture


def _read_file(path: str, field: str, fix: str = "") -> tuple[bytes, int]:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")  # reading a pipe or a device may never end
        with open(path, "rb", buffering=0) as file:
            return file.read(), status.st_mtime_ns
    except OSError as error:
        reason = error.strerror or str(error)
        raise field_error(field, f"got {path!r} ({reason})", "an image file", path, fix) from error


def _open(data: bytes, field: str) -> Picture:
    from PIL import Image as Pillow

    expected = "an image in JPEG, PNG, WebP, BMP, GIF or TIFF"
    if not data:
        raise field_error(field, "is empty", expected)
    try:
        return Pillow.open(BytesIO(data), formats=_FORMATS)
    except Pillow.DecompressionBombError as error:
        raise _too_large(field) from error
    except Exception as error:
        raise field_error(
            field, f"is not an image ({type(error).__name__})", expected, data[:16]
        ) from error


def _orientation(picture: Picture) -> int:
    """Return the EXIF orientation of an image, 1 to 8."""
    from PIL import Image as Pillow

    # PngImageFile.getexif would decode the pixels, to find EXIF data after them.
    value = Pillow.Image.getexif(picture).get(_ORIENTATION, 1)
    return value if value in _TRANSPOSITIONS else 1


def _too_large(field: str) -> DataError:
    return field_error(field, "has too many pixels", f"at most {MAX_PIXELS:,}", fix="make it smaller")


def _check_size(height: int, width: int, field: str) -> None:
    if height * width > MAX_PIXELS:
        raise _too_large(field)
    if min(height, width) < MIN_SIDE or max(height, width) > MAX_RATIO * min(height, width):
        expected = f"sides of at least {MIN_SIDE} pixels, the longer at most {MAX_RATIO} times the shorter"
        raise field_error(field, f"has {height}x{width} pixels", expected, (height, width))


def _to_rgb(picture: Picture) -> Picture:
    """Convert any color mode to RGB: transparent pixels become white, values of 16 bits lose the lower eight."""
    from PIL import Image as Pillow

    if picture.mode.startswith("I"):
        picture = Pillow.fromarray((np.asarray(picture, dtype=np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if picture.mode == "F":
        picture = Pillow.fromarray(np.asarray(picture).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        background = Pillow.new("RGBA", layer.size, "white")
        return Pillow.alpha_composite(background, layer).convert("RGB")
    return picture.convert("RGB")
