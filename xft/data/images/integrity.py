"""Integrity of image files: damage is an error of the row, not of the batch that decodes its pixels later.

- A truncated file is found by its end mark (JPEG, PNG, GIF) or the size that its header states (WebP, BMP, TIFF).
- PNG files have checksums.
- Of a JPEG, all segments are read. The tables of the decoder are tried on a picture of a few pixels. Damage of the compressed
  pixels themselves changes the picture, and is no error for decoders.
- GIF, WebP, and BMP and TIFF with compression are decoded.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from xft.data.formats.getters import field_error
from xft.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
_SLACK = 4096
"""Bytes after the end mark: cameras and editors append some."""
_STRIPS = ((273, 279), (324, 325))
"""Tags of TIFF: places and sizes of the strips, or of the tiles."""
_COMPRESSION = 259
"""Tag of TIFF; 1 is none."""
_UNCOMPRESSED = (bytes(4), b"\3\0\0\0")
"""Bytes of the compression in the header of a BMP: none, or masks of colors."""
_START, _END, _SCAN = b"\xff\xd8", 0xD9, 0xDA
_RESTARTS = range(0xD0, 0xD8)
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Marks of the segment of a JPEG that has the size of the picture."""
_METADATA = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
"""Marks of segments that no decoder needs, such as EXIF data."""
_SAMPLE_SIZE = 16
"""Sides of the picture on which the tables of a JPEG are tried, in pixels."""


def check_complete(data: bytes, kind: str, field: str) -> None:
    """Check that a file has its end. Decoders fill the missing part of a truncated one with gray, or fail.

    Raises:
        DataError: the file is truncated.
    """
    mark = _ENDS.get(kind)
    complete = mark is None or mark in data[-_SLACK:]
    if kind == "GIF":
        complete = data.rstrip(b"\0\r\n ").endswith(b";")
    if kind == "WEBP":
        complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if not complete:
        raise _truncated(data, kind, field)


def check_intact(data: bytes, picture: Picture, field: str) -> None:
    """Check that the pixels of a file can be decoded.

    Args:
        data: the file.
        picture: the file, opened, of a checked size.
        field: name of the image, for errors.

    Raises:
        DataError: the file is damaged or truncated.
    """
    from PIL import Image as Pillow

    kind = picture.format or ""
    try:
        if len(data) < _needed_bytes(data, picture):
            raise _truncated(data, kind, field)
        if kind in ("JPEG", "MPO") and _is_intact_jpeg(data):
            return
        if kind == "PNG":
            # Its method reads the checksums, and leaves the picture unusable.
            Pillow.open(BytesIO(data), formats=(kind,)).verify()
        elif not _is_plain(data, picture):
            Pillow.open(BytesIO(data)).load()
    except DataError:
        raise
    except Exception as error:  # Decoders raise errors of many types.
        raise field_error(field, f"is a damaged {kind} file ({error})", "an intact file") from error


def _is_plain(data: bytes, picture: Picture) -> bool:
    """Return whether a BMP or TIFF has no compression, so that its size says that all pixels are there."""
    from PIL.TiffImagePlugin import TiffImageFile

    if isinstance(picture, TiffImageFile):
        return picture.tag_v2.get(_COMPRESSION, 1) == 1
    return picture.format == "BMP" and data[30:34] in _UNCOMPRESSED


def _needed_bytes(data: bytes, picture: Picture) -> int:
    """Return the size that the header of a BMP without compression, or of a TIFF, demands; 0 for any other file."""
    from PIL.TiffImagePlugin import TiffImageFile

    if isinstance(picture, TiffImageFile):
        tags = picture.tag_v2
        places = [(tags[begin], tags[size]) for begin, size in _STRIPS if begin in tags]
        return max((sum(place) for pair in places for place in zip(*pair, strict=True)), default=0)
    has_fields = picture.format == "BMP" and int.from_bytes(data[14:18], "little") >= 40
    if not has_fields or data[30:34] not in _UNCOMPRESSED:
        return 0
    begin, bits = (
        int.from_bytes(data[place : place + size], "little") for place, size in ((10, 4), (28, 2))
    )
    # Rows are padded to four bytes; some writers leave out the padding of the last row.
    return begin + (picture.width * bits + 31) // 32 * 4 * picture.height - 3


def _is_intact_jpeg(data: bytes) -> bool:
    """Return whether all segments are intact. Of other files, some can be decoded, such as those with bytes between segments."""
    try:
        return _can_decode(_reduced_jpeg(data))
    except ValueError:
        return False


@lru_cache(4096)  # Files of one encoder have the same tables.
def _can_decode(reduced: bytes) -> bool:
    from PIL import Image as Pillow

    try:
        Pillow.open(BytesIO(reduced), formats=("JPEG",)).load()
    except Exception:  # noqa: BLE001 — decoders raise errors of many types
        return False
    return True


def _reduced_jpeg(data: bytes) -> bytes:
    """Return a JPEG of a few pixels with the tables of the given one, and without its compressed pixels and metadata.

    Raises:
        ValueError: the segments do not follow one another to the end of the picture.
    """
    values = np.frombuffer(data, dtype=np.uint8)
    # In compressed pixels, 0xff is followed by 0 or a restart mark.
    marks = np.flatnonzero(values[:-1] == 0xFF)
    following = values[marks + 1]
    is_mark = (following != 0) & (following != 0xFF) & ~np.isin(following, _RESTARTS)
    marks = marks[is_mark]
    parts, place = [_START], len(_START)
    while True:
        begin = place
        while data[place : place + 1] == b"\xff":
            place += 1
        mark = data[place] if begin < place < len(data) else 0
        if mark == _END:
            return b"".join([*parts, bytes((0xFF, _END))])
        size = int.from_bytes(data[place + 1 : place + 3], "big")
        end = place + 1 + size
        if mark < 0xC0 or mark in _RESTARTS or size < 2 or end > len(data):
            raise ValueError(f"no segment at byte {begin:,}")
        if mark in _FRAMES:
            start = place + 4  # after the size of the segment and the precision
            size_of_sample = struct.pack(">HH", _SAMPLE_SIZE, _SAMPLE_SIZE)
            parts += [data[begin:start], size_of_sample, data[start + 4 : end]]
        elif mark not in _METADATA:
            parts.append(data[begin:end])
        place = end
        if mark == _SCAN:
            later = marks[np.searchsorted(marks, end) :]
            if not len(later):
                raise ValueError("the compressed pixels have no end")
            place = int(later[0])


def _truncated(data: bytes, kind: str, field: str) -> DataError:
    return field_error(field, f"is a truncated {kind} file of {len(data):,} bytes", "a complete file")
