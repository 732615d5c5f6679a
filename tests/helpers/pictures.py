"""Small pictures, and the bytes of image files."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image as Pillow


def picture(height: int, width: int, seed: int = 0) -> Pillow.Image:
    """A picture of random blocks of color."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Pillow.fromarray(blocks).resize((width, height), Pillow.Resampling.BICUBIC)


def encoded(image: Pillow.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
