"""Detect damaged image files during data preparation, so that they do not fail in a training batch.

- Truncated files: a JPEG, PNG or GIF has no end, a WebP, BMP or TIFF is shorter than its header states.
- PNG: the checksums are verified.
- JPEG: all segments are parsed, and a small image is decoded with the tables of the file. Damaged compressed pixels pass:
  they change the picture, but decoders report no error. A file with other bytes between segments is decoded.
- GIF, WebP, and compressed BMP and TIFF are decoded.
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

_FILE_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}
"""EOI marker or IEND chunk, by format."""
_MAX_TRAILING_BYTES = 4096
"""Bytes in which the end of a file is searched: cameras and editors append some after it."""
_TIFF_STRIPS = ((273, 279), (324, 325))
"""TIFF tags: offsets and byte counts of the strips, or of the tiles."""
_TIFF_COMPRESSION = 259
"""TIFF tag; its value 1 means no compression."""
_BMP_UNCOMPRESSED = (bytes(4), b"\3\0\0\0")
"""Compression field of a BMP header without compression: BI_RGB, or BI_BITFIELDS (with color masks)."""
_SOI, _EOI, _SOS = b"\xff\xd8", 0xD9, 0xDA
"""JPEG: start of image, as bytes; markers of end of image and start of scan."""
_RST_MARKERS = range(0xD0, 0xD8)
"""Restart markers of a JPEG."""
_SOF_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""Start-of-frame markers of a JPEG, whose segment states the image size."""
_METADATA_MARKERS = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
"""Markers of JPEG segments that no decoder needs, such as EXIF data."""
_TEST_IMAGE_SIDE = 16
"""Height and width of the image that is decoded with the tables of a JPEG, in pixels."""


def check_not_truncated(data: bytes, format_name: str, field: str) -> None:
    """Check that a file has its end. Decoders fill the missing part of a truncated one with gray, or fail.

    Args:
        data: the file.
        format_name: Pillow's name of the format. Formats other than JPEG, MPO, PNG, GIF and WebP pass.
        field: name of the image, for errors.

    Raises:
        DataError: the file is truncated.
    """
    end = _FILE_ENDS.get(format_name)
    complete = end is None or end in data[-_MAX_TRAILING_BYTES:]
    if format_name == "GIF":
        complete = data.rstrip(b"\0\r\n ").endswith(b";")
    if format_name == "WEBP":
        complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if not complete:
        raise _truncated(data, format_name, field)


def check_intact(data: bytes, picture: Picture, field: str) -> None:
    """Check that a file is neither damaged nor truncated, as far as this is possible without decoding a JPEG or a PNG.

    Args:
        data: the file.
        picture: the file, opened with Pillow; its size has been checked.
        field: name of the image, for errors.

    Raises:
        DataError: the file is damaged or truncated.
    """
    from PIL import Image as Pillow

    format_name = picture.format or ""
    try:
        if len(data) < _needed_bytes(data, picture):
            raise _truncated(data, format_name, field)
        if format_name in ("JPEG", "MPO") and _is_intact_jpeg(data):
            return
        if format_name == "PNG":
            # The method verifies the checksums, and leaves the image object unusable.
            Pillow.open(BytesIO(data), formats=(format_name,)).verify()
        elif not _is_uncompressed(data, picture):
            Pillow.open(BytesIO(data)).load()
    except DataError:
        raise
    except Exception as error:  # Decoders raise errors of many types.
        raise field_error(field, f"is a damaged {format_name} file ({error})", "an intact file") from error


def _is_uncompressed(data: bytes, picture: Picture) -> bool:
    """Return whether the file is a BMP or TIFF without compression: its size then shows that no pixel is missing."""
    from PIL.TiffImagePlugin import TiffImageFile

    if isinstance(picture, TiffImageFile):
        return picture.tag_v2.get(_TIFF_COMPRESSION, 1) == 1
    return picture.format == "BMP" and data[30:34] in _BMP_UNCOMPRESSED


def _needed_bytes(data: bytes, picture: Picture) -> int:
    """Return the minimum file size by the header of an uncompressed BMP or of a TIFF; 0 for any other file."""
    from PIL.TiffImagePlugin import TiffImageFile

    if isinstance(picture, TiffImageFile):
        tags = picture.tag_v2
        ranges = [
            (begin, size)
            for offsets_tag, sizes_tag in _TIFF_STRIPS
            if offsets_tag in tags
            for begin, size in zip(tags[offsets_tag], tags[sizes_tag], strict=True)
        ]
        return max((begin + size for begin, size in ranges), default=0)
    has_info_header = picture.format == "BMP" and int.from_bytes(data[14:18], "little") >= 40
    if not has_info_header or data[30:34] not in _BMP_UNCOMPRESSED:
        return 0
    begin, bits = (
        int.from_bytes(data[offset : offset + size], "little") for offset, size in ((10, 4), (28, 2))
    )
    # Rows are padded to four bytes; some writers leave out the padding of the last row.
    return begin + (picture.width * bits + 31) // 32 * 4 * picture.height - 3


def _is_intact_jpeg(data: bytes) -> bool:
    """Return whether all segments are intact. Decoders accept some other files, such as those with bytes between segments."""
    try:
        return _can_decode(_reduced_jpeg(data))
    except ValueError:
        return False


@lru_cache(4096)  # Files written by the same encoder have the same tables.
def _can_decode(reduced: bytes) -> bool:
    from PIL import Image as Pillow

    try:
        Pillow.open(BytesIO(reduced), formats=("JPEG",)).load()
    except Exception:  # noqa: BLE001 — decoders raise errors of many types
        return False
    return True


def _reduced_jpeg(data: bytes) -> bytes:
    """Return a small JPEG with the tables of the given one, without its compressed pixels and metadata.

    Raises:
        ValueError: a segment is invalid, or the EOI marker is missing.
    """
    values = np.frombuffer(data, dtype=np.uint8)
    # In compressed pixels, 0xff is followed by 0 or a restart marker.
    markers = np.flatnonzero(values[:-1] == 0xFF)
    following = values[markers + 1]
    is_marker = (following != 0) & (following != 0xFF) & ~np.isin(following, _RST_MARKERS)
    markers = markers[is_marker]
    parts, offset = [_SOI], len(_SOI)
    while True:
        begin = offset
        while data[offset : offset + 1] == b"\xff":
            offset += 1
        marker = data[offset] if begin < offset < len(data) else 0
        if marker == _EOI:
            return b"".join([*parts, bytes((0xFF, _EOI))])
        size = int.from_bytes(data[offset + 1 : offset + 3], "big")
        end = offset + 1 + size
        if marker < 0xC0 or marker in _RST_MARKERS or size < 2 or end > len(data):
            raise ValueError(f"no segment at byte {begin:,}")
        if marker in _SOF_MARKERS:
            start = offset + 4  # after the size of the segment and the precision
            test_size = struct.pack(">HH", _TEST_IMAGE_SIDE, _TEST_IMAGE_SIDE)
            parts += [data[begin:start], test_size, data[start + 4 : end]]
        elif marker not in _METADATA_MARKERS:
            parts.append(data[begin:end])
        offset = end
        if marker == _SOS:
            later = markers[np.searchsorted(markers, end) :]
            if not len(later):
                raise ValueError("the compressed pixels have no end")
            offset = int(later[0])


def _truncated(data: bytes, format_name: str, field: str) -> DataError:
    return field_error(
        field, f"is a truncated {format_name} file of {len(data):,} bytes", "a complete file"
    )
