"""Collate: the two layouts of one set of samples, written out by hand."""

import numpy as np
import pytest
import torch

from xft.data.collate import collate_flat, collate_padded
from xft.types import IGNORE_INDEX, Sample

EOS = 2
IG = IGNORE_INDEX


def sample(ids: list[int], labels: list[int]) -> Sample:
    return Sample(np.asarray(ids, dtype=np.int32), np.asarray(labels, dtype=np.int32))


@pytest.fixture
def samples() -> list[Sample]:
    return [
        sample([11, 12, EOS], [IG, 12, EOS]),
        sample([21, 22, 23, 24, EOS], [21, 22, IG, 24, EOS]),  # trained from its first token on
        sample([31], [31]),
    ]


def test_flat_batch_by_hand(samples: list[Sample]) -> None:
    batch = collate_flat(samples)
    assert batch.input_ids.tolist() == [[11, 12, EOS, 21, 22, 23, 24, EOS, 31]]
    assert batch.labels.tolist() == [[IG, 12, EOS, IG, 22, IG, 24, EOS, IG]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1, 2, 3, 4, 0]]
    assert batch.segment_lengths == [3, 5, 1]
    assert batch.attention_mask is None


def test_padded_batch_by_hand_where_padding_is_eos(samples: list[Sample]) -> None:
    batch = collate_padded(samples, pad_token_id=EOS)
    assert batch.input_ids.tolist() == [
        [11, 12, EOS, EOS, EOS],
        [21, 22, 23, 24, EOS],
        [31, EOS, EOS, EOS, EOS],
    ]
    assert batch.labels.tolist() == [
        [IG, 12, EOS, IG, IG],
        [IG, 22, IG, 24, EOS],
        [IG, IG, IG, IG, IG],
    ]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]
    assert batch.segment_lengths == []


def test_padded_positions_restart_with_each_row(samples: list[Sample]) -> None:
    batch = collate_padded(samples, pad_token_id=0)
    assert batch.attention_mask is not None
    for row, size in enumerate([3, 5, 1]):
        assert batch.position_ids[row, :size].tolist() == list(range(size))


def test_both_layouts_count_alike(samples: list[Sample]) -> None:
    flat, padded = collate_flat(samples), collate_padded(samples, pad_token_id=EOS)
    assert flat.num_tokens == padded.num_tokens == 3 + 5 + 1
    assert flat.num_targets == padded.num_targets == 2 + 3 + 0
    assert flat.num_targets == sum(each.num_targets for each in samples)


@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_tensors_are_long_and_of_one_shape(samples: list[Sample], layout: str) -> None:
    batch = collate_flat(samples) if layout == "flat" else collate_padded(samples, pad_token_id=0)
    shape = (1, 9) if layout == "flat" else (3, 5)
    for tensor in (batch.input_ids, batch.labels, batch.position_ids):
        assert tensor.dtype == torch.long
        assert tuple(tensor.shape) == shape
        assert tensor.is_contiguous()


@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_collating_leaves_the_samples_as_they_are(samples: list[Sample], layout: str) -> None:
    for _ in range(2):
        batch = collate_flat(samples) if layout == "flat" else collate_padded(samples, pad_token_id=0)
        batch.labels.fill_(7)
        batch.input_ids.fill_(7)
    assert samples[1].labels.tolist() == [21, 22, IG, 24, EOS]
    assert samples[1].input_ids.tolist() == [21, 22, 23, 24, EOS]


def test_single_sample_is_the_same_in_both_layouts(samples: list[Sample]) -> None:
    flat, padded = collate_flat(samples[1:2]), collate_padded(samples[1:2], pad_token_id=0)
    assert torch.equal(flat.input_ids, padded.input_ids)
    assert torch.equal(flat.labels, padded.labels)
    assert torch.equal(flat.position_ids, padded.position_ids)
