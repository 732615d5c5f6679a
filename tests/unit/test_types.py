"""The nouns that rooms exchange: what they count, and that they cannot be changed on the way."""

import dataclasses

import numpy as np
import pytest
import torch

from xft.types import IGNORE_INDEX, Batch, Message, Sample, Segment


def test_ignore_index_is_the_default_of_torch_cross_entropy() -> None:
    assert torch.nn.CrossEntropyLoss().ignore_index == IGNORE_INDEX


@pytest.mark.parametrize("noun", [Message("user", "Hi"), Segment("Hi", False)])
def test_message_and_segment_are_frozen(noun: Message | Segment) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        noun.trained = True  # type: ignore[misc]


def test_message_is_not_trained_unless_it_says_so() -> None:
    assert Message("assistant", "Hello").trained is False


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ([IGNORE_INDEX, 5, 6], 2),
        ([4, 5, 6], 2),  # nothing stands before the first token to predict it
        ([4], 0),
        ([IGNORE_INDEX] * 3, 0),
        ([4, IGNORE_INDEX, 0], 1),  # id 0 is a target like any other
    ],
)
def test_targets_of_a_sample_are_labels_with_a_token_before_them(labels: list[int], count: int) -> None:
    sample = Sample(np.arange(len(labels), dtype=np.int32), np.asarray(labels, dtype=np.int32))
    assert sample.num_targets == count
    assert len(sample) == len(labels)


def test_batch_counts_as_cross_entropy_of_shifted_labels_does() -> None:
    labels = torch.tensor([[IGNORE_INDEX, 1, 2, IGNORE_INDEX], [IGNORE_INDEX, IGNORE_INDEX, 3, 0]])
    batch = Batch(torch.zeros(2, 4, dtype=torch.long), labels, torch.zeros(2, 4, dtype=torch.long))
    # Logits of zero over 4 classes cost log(4) each, so the sum says how many were counted.
    logits = torch.zeros(2 * 3, 4)
    summed = torch.nn.functional.cross_entropy(logits, labels[:, 1:].reshape(-1), reduction="sum")
    assert batch.num_targets == round(float(summed / torch.log(torch.tensor(4.0)))) == 4


def test_tokens_of_a_batch_are_those_that_are_not_padding() -> None:
    ids = torch.zeros(2, 4, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    assert Batch(ids, ids, ids, attention_mask=mask).num_tokens == 5
    assert Batch(ids, ids, ids).num_tokens == 8


@pytest.mark.parametrize("masked", [False, True])
def test_batch_moves_with_all_that_it_holds(masked: bool) -> None:
    ids = torch.arange(6).reshape(1, 6)
    mask = torch.ones_like(ids) if masked else None
    moved = Batch(ids, ids + 1, ids + 2, mask, [4, 2]).to(torch.device("meta"))
    for tensor in (moved.input_ids, moved.labels, moved.position_ids):
        assert tensor.device.type == "meta"
        assert tensor.shape == ids.shape
    assert (moved.attention_mask is not None) == masked
    assert moved.attention_mask is None or moved.attention_mask.device.type == "meta"
    assert moved.segment_lengths == [4, 2]
