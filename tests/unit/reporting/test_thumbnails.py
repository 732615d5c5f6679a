"""Thumbnails are small, and empty for images that cannot be read any more."""

import base64
from io import BytesIO
from pathlib import Path

from helpers.pictures import encoded, picture
from PIL import Image as Pillow

from xft.data.images.reading import open_image
from xft.reporting.thumbnails import SIDE, file_thumbnail, thumbnail


def size_of(url: str) -> tuple[int, int]:
    """Width and height of a picture in a data URL."""
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Pillow.open(BytesIO(base64.b64decode(data))).size


def test_thumbnail_is_small(tmp_path: Path) -> None:
    image = open_image(encoded(picture(300, 600)), tmp_path, "image")
    assert size_of(thumbnail(image)) == (SIDE, SIDE // 2)
    (tmp_path / "a.png").write_bytes(encoded(picture(20, 30)))
    assert size_of(file_thumbnail(str(tmp_path / "a.png"))) == (30, 20)


def test_unreadable_file_has_no_thumbnail(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    assert file_thumbnail(str(file)) == ""
    file.write_bytes(encoded(picture(20, 30)))
    image = open_image(str(file), tmp_path, "image")
    file.write_bytes(b"no image")
    assert thumbnail(image) == ""
