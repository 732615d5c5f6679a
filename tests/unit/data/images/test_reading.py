"""Headers and pixels of images: formats, modes, orientation, and files that cannot be used."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.pictures import encoded, picture
from PIL import Image as Pillow

from xft.data.images.reading import decode_pixels, inspect_image, read_pixels
from xft.errors import DataError
from xft.types import Image

HERE = Path()
RGB = picture(20, 30)
FIELD = "images[1]"


def inspected(data: bytes) -> tuple[Image, list[str]]:
    """An image in bytes, inspected."""
    return inspect_image(Image(data=data, field=FIELD), HERE)


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    """The pixels of an image in bytes, ``(height, width, 3)``."""
    image = read_pixels(inspected(data)[0])
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "JPEG", "WEBP"])
def test_file_of_each_format_is_read(kind: str) -> None:
    data = encoded(RGB, kind)
    image, _ = inspected(data)
    assert image.size == (20, 30)
    assert image.digest != 0
    difference = np.abs(pixels(data).astype(int) - np.asarray(RGB))
    assert difference.mean() < (1 if kind in ("PNG", "BMP", "TIFF") else 25)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    data = encoded(RGB, "PNG", exif=exif.tobytes())
    image, changes = inspected(data)
    assert image.size == ((20, 30) if orientation < 5 else (30, 20))
    assert changes == ([] if orientation == 1 else ["turned"])
    turned = pixels(data)
    original = np.asarray(RGB)
    if orientation == 6:  # a quarter turn clockwise shows the picture upright
        assert np.array_equal(turned, np.rot90(original, -1))
    if orientation == 3:
        assert np.array_equal(turned, np.rot90(original, 2))


def test_animation_gives_its_first_frame() -> None:
    buffer = BytesIO()
    red, blue = Pillow.new("RGB", (8, 8), "red"), Pillow.new("RGB", (8, 8), "blue")
    red.save(buffer, "GIF", save_all=True, append_images=[blue])
    assert "animated" in inspected(buffer.getvalue())[1]
    assert pixels(buffer.getvalue())[0, 0].tolist() == [255, 0, 0]


def test_transparent_pixels_become_white() -> None:
    layer = Pillow.new("RGBA", (8, 8), (0, 0, 0, 0))
    layer.putpixel((0, 0), (10, 20, 30, 255))
    data = encoded(layer)
    assert inspected(data)[1] == ["converted"]
    assert pixels(data)[0, 0].tolist() == [10, 20, 30]
    assert pixels(data)[1, 1].tolist() == [255, 255, 255]


def test_transparent_color_of_a_palette_becomes_white() -> None:
    image = Pillow.new("P", (8, 8), 0)
    image.putpalette([1, 2, 3, 200, 100, 50])
    image.putpixel((0, 0), 1)
    data = encoded(image, transparency=0)
    assert pixels(data)[0, 0].tolist() == [200, 100, 50]
    assert pixels(data)[1, 1].tolist() == [255, 255, 255]


def test_sixteen_bits_lose_the_lower_eight() -> None:
    values = np.full((8, 8), 0x8000, dtype=np.uint16)
    data = encoded(Pillow.fromarray(values))
    assert inspected(data)[1] == ["converted"]
    assert pixels(data)[0, 0].tolist() == [128, 128, 128]


def test_cmyk_becomes_rgb() -> None:
    data = encoded(Pillow.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF")
    assert inspected(data)[1] == ["converted"]
    assert pixels(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "YCbCr", "F"])
def test_other_modes_become_rgb(mode: str) -> None:
    kind = "TIFF" if mode in ("YCbCr", "F") else "PNG"
    assert pixels(encoded(RGB.convert(mode), kind)).shape == (20, 30, 3)


def _bomb() -> bytes:
    """A PNG whose header promises 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


BAD = {
    "empty": b"",
    "text": b"not an image",
    "html": b"<html><body>404</body></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "pdf": b"%PDF-1.4\n",
    "signature alone": encoded(RGB)[:8],
    "one row": encoded(picture(1, 40)),
    "one column": encoded(picture(40, 1)),
    "three rows": encoded(picture(3, 40)),
    "long": encoded(picture(4, 1000)),
    "bomb": _bomb(),
    **{f"truncated {kind}": encoded(picture(90, 90), kind)[:-60] for kind in ("PNG", "JPEG", "WEBP")},
    "truncated GIF": encoded(picture(90, 90), "GIF")[:-1].rstrip(b";"),
}


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("width", [32, 33, 34, 35])
def test_end_of_an_uncompressed_file_is_checked(mode: str, width: int) -> None:
    """A BMP may lack the padding of its last row."""
    for kind, spare in (("BMP", 3), ("TIFF", 0)):
        data = encoded(picture(20, width).convert(mode), kind)
        picture_size = inspected(data)[0].size
        assert picture_size == (20, width)
        with pytest.raises(DataError):
            inspected(data[: len(data) - spare - 1])
        read_pixels(inspected(data)[0])


@pytest.mark.parametrize("name", BAD)
def test_unusable_image_raises_with_its_field(name: str) -> None:
    with pytest.raises(DataError) as caught:
        inspected(BAD[name])
    assert caught.value.key == FIELD


@pytest.mark.parametrize("name", ["missing.png", ".", "a/../missing.png"])
def test_missing_file_raises(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        inspect_image(Image(name, field=FIELD), tmp_path)
    assert caught.value.key == FIELD
    assert "data.image_folder" in caught.value.fix


def test_relative_path_starts_at_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(RGB))
    image, _ = inspect_image(Image("a.png", field=FIELD), tmp_path)
    assert image.path == str(tmp_path / "a.png")
    assert image.modified == (tmp_path / "a.png").stat().st_mtime_ns


def test_file_that_was_changed_after_the_preparation_raises(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(RGB))
    image, _ = inspect_image(Image("a.png", field=FIELD), tmp_path)
    assert read_pixels(image).size == (30, 20)
    file.write_bytes(encoded(picture(20, 30, seed=1)))
    with pytest.raises(DataError) as caught:
        read_pixels(image)
    assert caught.value.key == FIELD
    file.unlink()
    with pytest.raises(DataError):
        read_pixels(image)


def test_decoded_pixels_replace_the_bytes() -> None:
    image, _ = inspected(encoded(RGB))
    decoded = decode_pixels(image)
    assert (decoded.data, decoded.size, decoded.digest) == (b"", image.size, image.digest)
    assert np.array_equal(np.asarray(read_pixels(decoded)), np.asarray(RGB))
