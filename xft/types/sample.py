"""Encoded samples."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xft.types.image import Image

IGNORE_INDEX = -100
"""Label of a token that is not in the loss (default ``ignore_index`` of torch's cross-entropy)."""

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Sample:
    """Encoded training sample.

    Attributes:
        input_ids: ``(length,)`` token ids.
        labels: ``(length,)`` token id of each target token, ``IGNORE_INDEX`` elsewhere. Labels are aligned with
            ``input_ids``, not shifted.
        text: tokenized text; empty for a sample that was read from a store.
        desirable: label of an unpaired completion (KTO), else ``None``.
        images: images of the sample, in the order of their tokens.
    """

    input_ids: IntArray
    labels: IntArray
    text: str = ""
    desirable: bool | None = None
    images: tuple[Image, ...] = ()

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def num_targets(self) -> int:
        """Number of target tokens: labels with at least one token before them."""
        return int((self.labels[1:] != IGNORE_INDEX).sum())
