"""Images of a conversation."""

from dataclasses import dataclass
from dataclasses import field as _field

import numpy as np
import numpy.typing as npt

IMAGE_PLACE = "\ue000image\ue001"
"""Text that stands for an image in the content of a message: characters of Unicode's private use area."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image: a file, the bytes of one, or decoded pixels.

    Attributes:
        path: path of the file; empty for bytes.
        data: contents of the file; empty for a path.
        field: field of the row that holds the image, for errors.
        height: rows of pixels, after the orientation of its EXIF data; 0 until the header is read.
        width: columns of pixels, likewise.
        digest: 64-bit digest of the contents; 0 until they are read.
        modified: modification time of the file in nanoseconds; 0 for bytes.
        pixels: ``(height, width, 3)`` decoded pixels as RGB; ``None`` if they are decoded when they are needed.
    """

    path: str = ""
    data: bytes = b""
    field: str = _field(default="", compare=False)
    height: int = 0
    width: int = 0
    digest: int = 0
    modified: int = 0
    pixels: npt.NDArray[np.uint8] | None = _field(default=None, compare=False, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width
