"""Lay samples out as batches: concatenated without padding, or padded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch

from xft.data.store.token_store import digest
from xft.types import IGNORE_INDEX, Batch, ImageProcessor, Sample, Tokenizer

Layout = Literal["padding_free", "padded"]


@dataclass(frozen=True)
class Collator:
    """Lay samples out as batches.

    An *example* is what an epoch shuffles as a whole: one sample, or the two of a preference pair
    (chosen first), which a split stores next to each other. With ``samples_per_example=2``,
    ``collate(samples, [3, 0])`` lays out samples 6, 7, 0 and 1, in this order.

    Attributes:
        samples_per_example: 2 for preference pairs, else 1.
        layout: ``padding_free`` concatenates samples to one sequence (see :func:`collate_padding_free`);
            ``padded`` pads each to the longest (see :func:`collate_padded`).
        pad_token_id: id of the padding token; needed by ``padded`` only.
        processor: image processor of the model; ``None`` for a text model.
    """

    samples_per_example: int = 1
    layout: Layout = "padding_free"
    pad_token_id: int | None = None
    processor: ImageProcessor | None = None

    def __post_init__(self) -> None:
        if self.layout == "padded" and self.pad_token_id is None:
            raise ValueError("layout 'padded' needs a pad_token_id")

    @classmethod
    def for_model(
        cls,
        tokenizer: Tokenizer,
        supports_packing: bool,
        samples_per_example: int = 1,
        processor: ImageProcessor | None = None,
    ) -> Self:
        """Choose the layout that a model can process.

        Args:
            tokenizer: tokenizer of the model.
            supports_packing: whether the model keeps concatenated samples apart.
            samples_per_example, processor: as in the class.
        """
        if supports_packing:
            return cls(samples_per_example, processor=processor)
        return cls(samples_per_example, "padded", tokenizer.pad_token_id or 0, processor)

    @property
    def is_padded(self) -> bool:
        """Whether the layout is ``padded``."""
        return self.layout == "padded"

    def collate(self, samples: Sequence[Sample], examples: Sequence[int]) -> Batch:
        """Lay out some examples of a split.

        Args:
            samples: the split.
            examples: indices of examples, in order. If empty, returns the first example with all
                labels masked: a dummy batch for ranks that ran out of data.

        Raises:
            DataError: an image cannot be decoded, or was changed since the data was prepared.
        """
        size = self.samples_per_example
        chosen = [samples[size * example + offset] for example in examples or [0] for offset in range(size)]
        chosen += self._filler(chosen)
        if self.pad_token_id is None or not self.is_padded:
            batch = collate_padding_free(chosen)
        else:
            batch = collate_padded(chosen, self.pad_token_id)
        if self.processor is not None:
            length = None if batch.seq_lens else batch.input_ids.shape[1]
            inputs = self.processor.model_inputs(chosen, length)
            batch.model_inputs, batch.token_inputs = inputs.model_inputs, inputs.token_inputs
        if not examples:
            batch.labels.fill_(IGNORE_INDEX)
        return batch

    def _filler(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return a filler sample for a batch without images, if the model needs one (see ``ImageProcessor.filler``)."""
        filler = None if self.processor is None else self.processor.filler
        is_plain = self.samples_per_example == 1 and all(sample.desirable is None for sample in samples)
        if filler is None or not is_plain or any(sample.images for sample in samples):
            return []
        return [filler]

    def iter_batches(self, samples: Sequence[Sample], max_tokens: int = 4096) -> Iterator[Batch]:
        """Lay out every example of a split once, in order.

        Args:
            samples: the split.
            max_tokens: maximum number of tokens of a batch, including padding; a single longer example exceeds it.

        Raises:
            DataError: an image cannot be decoded, or was changed since the data was prepared.
        """
        size = self.samples_per_example
        pending: list[int] = []
        longest = 0
        for example in range(len(samples) // size):
            length = max(len(samples[size * example + offset]) for offset in range(size))
            longest = max(longest, length)
            if pending and longest * size * (len(pending) + 1) > max_tokens:
                yield self.collate(samples, pending)
                pending, longest = [], length
            pending.append(example)
        if pending:
            yield self.collate(samples, pending)


def collate_padding_free(samples: Sequence[Sample]) -> Batch:
    """Concatenate samples to one sequence, without padding.

    Positions restart with each sample. The first label of each is masked: no token of the same
    sample predicts it. Two samples ``[5, 6, 7]`` and ``[8, 9]``, all targets, become::

        input_ids        [[   5, 6, 7,    8, 9]]
        labels           [[-100, 6, 7, -100, 9]]
        position_ids     [[   0, 1, 2,    0, 1]]
        seq_lens         [3, 2]

    (≈ transformers ``DataCollatorWithFlattening``)

    Returns:
        A batch of shape ``(1, sum of lengths)``.
    """
    labels = [np.array(sample.labels, dtype=np.int64) for sample in samples]
    for sample_labels in labels:
        sample_labels[0] = IGNORE_INDEX
    return Batch(
        input_ids=_row([sample.input_ids for sample in samples]),
        labels=_row(labels),
        position_ids=_row([np.arange(len(sample)) for sample in samples]),
        seq_lens=[len(sample) for sample in samples],
        desirable=_desirable(samples),
        sample_hashes=_sample_hashes(samples),
    )


def collate_padded(samples: Sequence[Sample], pad_token_id: int) -> Batch:
    """Put each sample into a row of the batch, padded on the right.

    Padding is masked by position, never by id: the padding token may also end an answer. Two
    samples ``[5, 6, 7]`` and ``[8, 9]``, all targets, become with ``pad_token_id=0``::

        input_ids       [[   5, 6, 7], [   8, 9,    0]]
        labels          [[-100, 6, 7], [-100, 9, -100]]
        position_ids    [[   0, 1, 2], [   0, 1,    2]]
        attention_mask  [[   1, 1, 1], [   1, 1,    0]]

    Returns:
        A batch of shape ``(number of samples, longest)``.
    """
    shape = (len(samples), max(len(sample) for sample in samples))
    input_ids = torch.full(shape, pad_token_id, dtype=torch.long)
    labels = torch.full(shape, IGNORE_INDEX, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    for row, sample in enumerate(samples):
        size = len(sample)
        input_ids[row, :size] = torch.from_numpy(sample.input_ids)
        labels[row, :size] = torch.from_numpy(sample.labels)
        mask[row, :size] = 1
    labels[:, 0] = IGNORE_INDEX
    positions = torch.arange(shape[1]).expand(shape).contiguous()
    return Batch(
        input_ids,
        labels,
        positions,
        attention_mask=mask,
        desirable=_desirable(samples),
        sample_hashes=_sample_hashes(samples),
    )


def _desirable(samples: Sequence[Sample]) -> torch.Tensor | None:
    labels = [sample.desirable for sample in samples if sample.desirable is not None]
    return torch.tensor(labels) if len(labels) == len(samples) else None


def _sample_hashes(samples: Sequence[Sample]) -> list[int]:
    return [
        digest(
            sample.input_ids.astype(np.int32).tobytes(),
            sample.labels.astype(np.int32).tobytes(),
            *[image.digest.to_bytes(8, "little") for image in sample.images],
        )
        for sample in samples
    ]


def _row(pieces: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(pieces).astype(np.int64))[None]
