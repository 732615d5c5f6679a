"""Damaged image files: detected during data preparation, not when a batch is built."""

import random
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.pictures import encoded, picture
from PIL import Image as Pillow

from xft.data.images.reading import inspect_image, read_pixels
from xft.errors import DataError
from xft.types import Image

PHOTO = Pillow.fromarray(
    (np.add.outer(np.arange(120), np.arange(160))[..., None] + np.asarray(picture(120, 160)) // 4).astype(
        np.uint8
    )
)
FILES = {
    "JPEG": encoded(PHOTO, "JPEG"),
    "progressive JPEG": encoded(PHOTO, "JPEG", progressive=True),
    "JPEG with restarts": encoded(PHOTO, "JPEG", restart_marker_blocks=4),
    "gray JPEG": encoded(PHOTO.convert("L"), "JPEG"),
    "CMYK JPEG": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "MPO": encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO]),
    "GIF": encoded(PHOTO, "GIF"),
    "WEBP": encoded(PHOTO, "WEBP"),
    "lossless WEBP": encoded(PHOTO, "WEBP", lossless=True),
    "PNG": encoded(PHOTO, "PNG"),
    "BMP": encoded(PHOTO, "BMP"),
    "TIFF": encoded(PHOTO, "TIFF"),
    "LZW TIFF": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "deflate TIFF": encoded(PHOTO, "TIFF", compression="tiff_deflate"),
    "JPEG TIFF": encoded(PHOTO, "TIFF", compression="jpeg"),
}


def read(data: bytes) -> Image:
    return inspect_image(Image(data=data, field="image"), Path())[0]


def damage(data: bytes, number: int) -> bytes:
    """Change one bit, a byte near the start, or a stretch of bytes; the seed is the number."""
    generator, changed = random.Random(number), bytearray(data)
    offset = generator.randrange(len(changed))
    if number % 4 == 0:
        changed[offset] ^= 1 << generator.randrange(8)
    elif number % 4 == 1:
        changed[generator.randrange(min(700, len(changed)))] = generator.randrange(256)
    else:
        end = min(offset + generator.choice((4, 64, 512)), len(changed) - 2)
        changed[offset:end] = bytes(end - offset) if number % 4 == 2 else generator.randbytes(end - offset)
    return bytes(changed)


@pytest.mark.parametrize("name", FILES)
def test_intact_file_is_read(name: str) -> None:
    assert read_pixels(read(FILES[name])).size == PHOTO.size


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_file_that_is_accepted_can_be_decoded(name: str) -> None:
    fields = []
    for number in range(200):
        try:
            image = read(damage(FILES[name], number))
        except DataError as error:
            fields.append(error.key)
        else:
            read_pixels(image)
    assert set(fields) <= {"image"}


def test_pixels_of_a_jpeg_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    load = Pillow.Image.load
    monkeypatch.setattr(
        "PIL.ImageFile.ImageFile.load", lambda self: decoded.append(self.size) or load(self)
    )
    # Tables of their own: those of one encoder are tried once.
    for _ in range(2):
        read(encoded(PHOTO, "JPEG", quality=37))
    assert decoded == [(16, 16)]


def test_jpeg_with_bytes_between_segments_is_read() -> None:
    """Decoders skip them."""
    data = FILES["JPEG"]
    frame = data.index(b"\xff\xc0")
    assert read_pixels(read(data[:frame] + b"junk" + data[frame:])).size == PHOTO.size


def test_jpeg_that_ends_within_a_segment_is_refused() -> None:
    buffer = BytesIO()
    PHOTO.save(buffer, "JPEG")
    with pytest.raises(DataError):
        read(buffer.getvalue()[:300] + b"\xff\xd9")
