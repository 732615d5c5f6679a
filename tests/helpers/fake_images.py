"""An image processor without a model: an image of 2 rows and 3 columns becomes 6 tokens ``<img>``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from xft.data.images.reading import read_pixels
from xft.types import ImageInputs, Sample


class FakeProcessor:
    """Image processor of a model that sees the mean color of each image."""

    token = "<img>"
    placeholder = "[<img>]"
    token_ids: frozenset[int] = frozenset()
    fingerprint = "fake"
    filler: Sample | None = None

    def expand(self, sizes: Sequence[tuple[int, int]]) -> list[str]:
        """Write a token for each pixel."""
        return [self.token * (height * width) for height, width in sizes]

    def count_tokens(self, size: tuple[int, int]) -> int:
        """Count the pixels."""
        return size[0] * size[1]

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def generation_inputs(self, prompts: Sequence[Sample]) -> dict[str, torch.Tensor]:
        """Return the mean color of each image."""
        return self.model_inputs(prompts, None).model_inputs

    def model_inputs(self, samples: Sequence[Sample], length: int | None) -> ImageInputs:
        """Return the mean color of each image."""
        colors = [
            np.asarray(read_pixels(image)).mean((0, 1)) for sample in samples for image in sample.images
        ]
        lengths = torch.tensor([[len(sample) for sample in samples]])
        return ImageInputs(
            {"colors": torch.tensor(np.array(colors))} if colors else {}, {"lengths": lengths}
        )
