"""Small copies of images, embedded in pages."""

import base64
from io import BytesIO
from pathlib import Path

from xft.data.images.reading import open_image, read_pixels
from xft.errors import DataError
from xft.types import Image

SIDE = 112
"""Longest side of a thumbnail in pixels."""


def thumbnail(image: Image) -> str:
    """Return a small copy of an image as a data URL; empty if it cannot be read any more."""
    try:
        picture = read_pixels(image)
    except DataError:
        return ""
    picture.thumbnail((SIDE, SIDE))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def file_thumbnail(path: str, folder: Path = Path()) -> str:
    """Return a small copy of an image file as a data URL; empty if it cannot be read.

    Args:
        path: of the file.
        folder: folder of a relative path.
    """
    try:
        return thumbnail(open_image(str(folder / Path(path).expanduser()), Path(), "image"))
    except DataError:
        return ""
