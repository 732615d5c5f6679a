"""Lay samples out in a batch: flat, without padding, or padded."""

from collections.abc import Sequence

import numpy as np
import torch

from xft.types import IGNORE_INDEX, Batch, Sample


def collate_flat(samples: Sequence[Sample]) -> Batch:
    """Put samples one behind the other in a single row.

    Positions restart with each sample, and the first label of each is ignored: nothing in the
    sample predicts it.

    Returns:
        A batch of shape ``(1, sum of lengths)`` with ``segment_lengths``.
    """
    labels = [np.array(each.labels, dtype=np.int64) for each in samples]
    for each in labels:
        each[0] = IGNORE_INDEX
    return Batch(
        input_ids=_row([each.input_ids for each in samples]),
        labels=_row(labels),
        position_ids=_row([np.arange(len(each)) for each in samples]),
        segment_lengths=[len(each) for each in samples],
    )


def collate_padded(samples: Sequence[Sample], pad_token_id: int) -> Batch:
    """Put each sample in a row of its own, padded on the right.

    Padding is masked by position, never by id: the padding token may well be the one that ends
    an answer.

    Returns:
        A batch of shape ``(number of samples, longest)`` with an ``attention_mask``.
    """
    shape = (len(samples), max(len(each) for each in samples))
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
    return Batch(input_ids, labels, positions, attention_mask=mask)


def _row(pieces: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(pieces).astype(np.int64))[None]
