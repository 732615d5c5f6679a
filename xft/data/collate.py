"""Lay samples out in a batch: flat, without padding, or padded."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from xft.data.store import digest
from xft.types import IGNORE_INDEX, Batch, Sample


def lay_out(
    samples: Sequence[Sample], units: Sequence[int], unit: int = 1, pad_token_id: int | None = None
) -> Batch:
    """Make a batch of some units of a split.

    Args:
        samples: the split.
        units: which units, in their order. Where there are none, the batch is the first unit with
            no token trained: what a rank that nothing is left for computes, with no weight.
        unit: how many neighbouring samples a unit has: 2 for preference pairs, which so stand side
            by side, the chosen answer first.
        pad_token_id: pads a row to the longest; ``None`` lays the samples out flat.
    """
    chosen = [samples[unit * each + part] for each in units or [0] for part in range(unit)]
    batch = collate_flat(chosen) if pad_token_id is None else collate_padded(chosen, pad_token_id)
    if not units:
        batch.labels.fill_(IGNORE_INDEX)
    return batch


def every_batch(
    samples: Sequence[Sample], unit: int = 1, pad_token_id: int | None = None, tokens: int = 4096
) -> Iterator[Batch]:
    """Lay every unit of a split out once, in order.

    Args:
        samples: the split.
        unit: as in :func:`lay_out`.
        pad_token_id: as in :func:`lay_out`.
        tokens: at most so many in a batch, unless a single unit has more.
    """
    waiting: list[int] = []
    longest = 0
    for number in range(len(samples) // unit):
        length = max(len(samples[unit * number + part]) for part in range(unit))
        longest = max(longest, length)
        if waiting and longest * unit * (len(waiting) + 1) > tokens:
            yield lay_out(samples, waiting, unit, pad_token_id)
            waiting, longest = [], length
        waiting.append(number)
    if waiting:
        yield lay_out(samples, waiting, unit, pad_token_id)


def collate_flat(samples: Sequence[Sample]) -> Batch:
    """Put samples one behind the other in a single row.

    Positions restart with each sample, and the first label of each is ignored: nothing in the
    sample predicts it.

    Returns:
        A batch of shape ``(1, sum of lengths)`` with ``seq_lens``.
    """
    labels = [np.array(each.labels, dtype=np.int64) for each in samples]
    for each in labels:
        each[0] = IGNORE_INDEX
    return Batch(
        input_ids=_row([each.input_ids for each in samples]),
        labels=_row(labels),
        position_ids=_row([np.arange(len(each)) for each in samples]),
        seq_lens=[len(each) for each in samples],
        desirable=_desirable(samples),
        sample_hashes=_digests(samples),
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
    return Batch(
        input_ids,
        labels,
        positions,
        attention_mask=mask,
        desirable=_desirable(samples),
        sample_hashes=_digests(samples),
    )


def _desirable(samples: Sequence[Sample]) -> torch.Tensor | None:
    marks = [each.desirable for each in samples if each.desirable is not None]
    return torch.tensor(marks) if len(marks) == len(samples) else None


def _digests(samples: Sequence[Sample]) -> list[int]:
    return [
        digest(each.input_ids.astype(np.int32).tobytes(), each.labels.astype(np.int32).tobytes())
        for each in samples
    ]


def _row(pieces: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(pieces).astype(np.int64))[None]
