"""Collate: the two layouts of one set of samples, written out by hand."""

import numpy as np
import pytest
import torch

from xft.data.collate import collate_flat, collate_padded, every_batch, lay_out
from xft.types import IGNORE_INDEX, Batch, Sample

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
    assert batch.seq_lens == [3, 5, 1]
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
    assert batch.seq_lens == []


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


@pytest.fixture
def pairs() -> list[Sample]:
    """Three pairs of two samples each, of 4 + 2, 3 + 5 and 2 + 2 tokens; the ids say which is which."""
    lengths = [4, 2, 3, 5, 2, 2]
    return [
        sample([10 * number + place for place in range(length)], [IG, *[9] * (length - 1)])
        for number, length in enumerate(lengths)
    ]


def rows(batch: Batch) -> list[list[int]]:
    return [each.tolist() for each in batch.split(batch.input_ids)]


@pytest.mark.parametrize("pad", [None, 77])
def test_units_are_laid_out_with_their_samples_side_by_side(pairs: list[Sample], pad: int | None) -> None:
    batch = lay_out(pairs, [2, 0], unit=2, pad_token_id=pad)
    assert rows(batch) == [[40, 41], [50, 51], [0, 1, 2, 3], [10, 11]]
    assert (batch.attention_mask is None) == (pad is None)
    assert batch.num_samples == 4
    assert batch.targets_per_sample == [1, 1, 3, 1]


@pytest.mark.parametrize("unit", [1, 2])
def test_no_units_are_a_whole_unit_without_targets(pairs: list[Sample], unit: int) -> None:
    batch = lay_out(pairs, [], unit)
    assert batch.num_samples == unit
    assert batch.num_targets == 0
    assert batch.targets_per_sample == [0] * unit
    assert lay_out(pairs, [0], unit).num_targets > 0


@pytest.mark.parametrize(("tokens", "sizes"), [(1, [2, 2, 2]), (16, [2, 2, 2]), (20, [4, 2]), (100, [6])])
def test_every_unit_is_laid_out_once_within_the_budget(
    pairs: list[Sample], tokens: int, sizes: list[int]
) -> None:
    """Two pairs, each as long as the longest answer (5), are 20 tokens; a pair alone may be more."""
    batches = list(every_batch(pairs, 2, tokens=tokens))
    assert [each.num_samples for each in batches] == sizes
    assert [row for each in batches for row in rows(each)] == [each.input_ids.tolist() for each in pairs]


def test_labels_of_answers_travel_with_them(samples: list[Sample]) -> None:
    marks = [True, False, True]
    judged = [
        Sample(each.input_ids, each.labels, desirable=mark)
        for each, mark in zip(samples, marks, strict=True)
    ]
    for batch in (collate_flat(judged), collate_padded(judged, 0)):
        assert batch.desirable is not None
        assert batch.desirable.dtype == torch.bool
        assert batch.desirable.tolist() == marks
        moved = batch.to(torch.device("meta"))
        assert moved.desirable is not None
        assert moved.desirable.device.type == "meta"
        assert moved.sample_hashes == batch.sample_hashes
    assert collate_flat(samples).desirable is None


def test_digests_stand_for_ids_and_labels_alone(samples: list[Sample]) -> None:
    """They do not depend on layout or order, nor on the type of the ids."""
    flat, padded = collate_flat(samples), collate_padded(samples[::-1], 0)
    assert len(set(flat.sample_hashes)) == 3
    assert flat.sample_hashes == padded.sample_hashes[::-1]
    wide = [Sample(each.input_ids.astype(np.int64), each.labels.astype(np.int64)) for each in samples]
    assert collate_flat(wide).sample_hashes == flat.sample_hashes
    other = sample([11, 12, EOS], [IG, IG, EOS])
    assert collate_flat([other]).sample_hashes[0] not in flat.sample_hashes


def test_split_leaves_padding_out_by_position(samples: list[Sample]) -> None:
    batch = collate_padded(samples, pad_token_id=EOS)
    assert rows(batch) == [[11, 12, EOS], [21, 22, 23, 24, EOS], [31]]
    assert rows(collate_flat(samples)) == rows(batch)
    assert batch.targets_per_sample == collate_flat(samples).targets_per_sample == [2, 3, 0]
