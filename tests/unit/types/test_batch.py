import pytest
import torch

from xft.types import IGNORE_INDEX, Batch


def test_num_targets_equals_count_of_cross_entropy_on_shifted_labels() -> None:
    labels = torch.tensor([[IGNORE_INDEX, 1, 2, IGNORE_INDEX], [IGNORE_INDEX, IGNORE_INDEX, 3, 0]])
    batch = Batch(torch.zeros(2, 4, dtype=torch.long), labels, torch.zeros(2, 4, dtype=torch.long))
    # Zero logits over 4 classes cost log(4) per target, so the sum gives the number of counted targets.
    logits = torch.zeros(2 * 3, 4)
    summed = torch.nn.functional.cross_entropy(logits, labels[:, 1:].reshape(-1), reduction="sum")
    assert batch.num_targets == round(float(summed / torch.log(torch.tensor(4.0)))) == 4


def test_target_positions_point_to_predicting_tokens() -> None:
    labels = torch.tensor([[7, 1, 2, IGNORE_INDEX], [IGNORE_INDEX, IGNORE_INDEX, 3, 0]])
    batch = Batch(torch.zeros(2, 4, dtype=torch.long), labels, torch.zeros(2, 4, dtype=torch.long))
    assert batch.target_positions.tolist() == [0, 1, 5, 6]
    assert labels[0, 0] == 7  # the labels of the batch are not changed


def test_num_tokens_leaves_out_padding() -> None:
    ids = torch.zeros(2, 4, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]])
    assert Batch(ids, ids, ids, attention_mask=mask).num_tokens == 5
    assert Batch(ids, ids, ids).num_tokens == 8


@pytest.mark.parametrize("masked", [False, True])
def test_to_moves_all_tensors(masked: bool) -> None:
    ids = torch.arange(6).reshape(1, 6)
    mask = torch.ones_like(ids) if masked else None
    moved = Batch(ids, ids + 1, ids + 2, mask, [4, 2]).to(torch.device("meta"))
    for tensor in (moved.input_ids, moved.labels, moved.position_ids):
        assert tensor.device.type == "meta"
        assert tensor.shape == ids.shape
    assert (moved.attention_mask is not None) == masked
    assert moved.attention_mask is None or moved.attention_mask.device.type == "meta"
    assert moved.seq_lens == [4, 2]
