"""Collate: the two layouts of one set of samples, written out by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from xft.data.batching.collate import Collator, collate_padded, collate_padding_free
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
    batch = collate_padding_free(samples)
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
    flat, padded = collate_padding_free(samples), collate_padded(samples, pad_token_id=EOS)
    assert flat.num_tokens == padded.num_tokens == 3 + 5 + 1
    assert flat.num_targets == padded.num_targets == 2 + 3 + 0
    assert flat.num_targets == sum(each.num_targets for each in samples)


@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_tensors_are_long_and_of_one_shape(samples: list[Sample], layout: str) -> None:
    batch = collate_padding_free(samples) if layout == "flat" else collate_padded(samples, pad_token_id=0)
    shape = (1, 9) if layout == "flat" else (3, 5)
    for tensor in (batch.input_ids, batch.labels, batch.position_ids):
        assert tensor.dtype == torch.long
        assert tuple(tensor.shape) == shape
        assert tensor.is_contiguous()


@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_collating_leaves_the_samples_as_they_are(samples: list[Sample], layout: str) -> None:
    for _ in range(2):
        batch = (
            collate_padding_free(samples) if layout == "flat" else collate_padded(samples, pad_token_id=0)
        )
        batch.labels.fill_(7)
        batch.input_ids.fill_(7)
    assert samples[1].labels.tolist() == [21, 22, IG, 24, EOS]
    assert samples[1].input_ids.tolist() == [21, 22, 23, 24, EOS]


def test_single_sample_is_the_same_in_both_layouts(samples: list[Sample]) -> None:
    flat, padded = collate_padding_free(samples[1:2]), collate_padded(samples[1:2], pad_token_id=0)
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


@pytest.mark.parametrize("collator", [Collator(2), Collator(2, "padded", 77)])
def test_collate_keeps_the_samples_of_an_example_adjacent(pairs: list[Sample], collator: Collator) -> None:
    batch = collator.collate(pairs, [2, 0])
    assert rows(batch) == [[40, 41], [50, 51], [0, 1, 2, 3], [10, 11]]
    assert (batch.attention_mask is not None) == collator.is_padded
    assert batch.num_samples == 4
    assert batch.targets_per_sample == [1, 1, 3, 1]


@pytest.mark.parametrize("size", [1, 2])
def test_collate_without_examples_returns_first_example_without_targets(
    pairs: list[Sample], size: int
) -> None:
    batch = Collator(size).collate(pairs, [])
    assert batch.num_samples == size
    assert batch.num_targets == 0
    assert batch.targets_per_sample == [0] * size
    assert Collator(size).collate(pairs, [0]).num_targets > 0


def test_collator_chooses_padding_free_for_models_that_support_packing(
    make_byte_tokenizer: Callable[..., Any],
) -> None:
    tokenizer = make_byte_tokenizer()
    pad = tokenizer.pad_token_id
    assert Collator.for_model(tokenizer, True, 2) == Collator(2, "padding_free")
    assert Collator.for_model(tokenizer, False, 2) == Collator(2, "padded", pad)
    tokenizer.pad_token = None
    assert Collator.for_model(tokenizer, False) == Collator(1, "padded", 0)


def test_collator_padded_without_padding_token_is_an_error() -> None:
    with pytest.raises(ValueError, match="pad_token_id"):
        Collator(1, "padded")


@pytest.mark.parametrize(("tokens", "sizes"), [(1, [2, 2, 2]), (16, [2, 2, 2]), (20, [4, 2]), (100, [6])])
def test_iter_batches_covers_every_example_once_within_the_token_limit(
    pairs: list[Sample], tokens: int, sizes: list[int]
) -> None:
    """Two pairs, each as long as the longest answer (5), are 20 tokens; a pair alone may be more."""
    batches = list(Collator(2).iter_batches(pairs, max_tokens=tokens))
    assert [each.num_samples for each in batches] == sizes
    assert [row for each in batches for row in rows(each)] == [each.input_ids.tolist() for each in pairs]


def test_labels_of_answers_travel_with_them(samples: list[Sample]) -> None:
    marks = [True, False, True]
    judged = [
        Sample(each.input_ids, each.labels, desirable=mark)
        for each, mark in zip(samples, marks, strict=True)
    ]
    for batch in (collate_padding_free(judged), collate_padded(judged, 0)):
        assert batch.desirable is not None
        assert batch.desirable.dtype == torch.bool
        assert batch.desirable.tolist() == marks
        moved = batch.to(torch.device("meta"))
        assert moved.desirable is not None
        assert moved.desirable.device.type == "meta"
        assert moved.sample_hashes == batch.sample_hashes
    assert collate_padding_free(samples).desirable is None


def test_digests_stand_for_ids_and_labels_alone(samples: list[Sample]) -> None:
    """They do not depend on layout or order, nor on the type of the ids."""
    flat, padded = collate_padding_free(samples), collate_padded(samples[::-1], 0)
    assert len(set(flat.sample_hashes)) == 3
    assert flat.sample_hashes == padded.sample_hashes[::-1]
    wide = [Sample(each.input_ids.astype(np.int64), each.labels.astype(np.int64)) for each in samples]
    assert collate_padding_free(wide).sample_hashes == flat.sample_hashes
    other = sample([11, 12, EOS], [IG, IG, EOS])
    assert collate_padding_free([other]).sample_hashes[0] not in flat.sample_hashes


def test_split_leaves_padding_out_by_position(samples: list[Sample]) -> None:
    batch = collate_padded(samples, pad_token_id=EOS)
    assert rows(batch) == [[11, 12, EOS], [21, 22, 23, 24, EOS], [31]]
    assert rows(collate_padding_free(samples)) == rows(batch)
    assert batch.targets_per_sample == collate_padding_free(samples).targets_per_sample == [2, 3, 0]
