from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.preferences import pair_samples, whole_model
from torch import Tensor

from xft.data import collate_padded, collate_padding_free
from xft.models import TrainingModel, forward_inputs
from xft.models.forward_inputs import local_target_counts, local_targets
from xft.models.model_options import ModelOptions, set_model_options
from xft.objectives import next_token
from xft.types import IGNORE_INDEX, Batch, SequenceParallelGroup


def _step(batch: Batch) -> tuple[float, list[Tensor]]:
    model = whole_model()
    output = TrainingModel(model, next_token)(batch)
    output.loss_sum.backward()
    return float(output.loss_sum.detach()), [
        param.grad for param in model.parameters() if param.grad is not None
    ]


def test_flat_batch_is_padded_for_fused_kernels_in_a_segment_of_its_own() -> None:
    model, batch = whole_model(), collate_padding_free(pair_samples())
    length = batch.input_ids.shape[1]
    arguments = forward_inputs.forward_inputs(model, batch, full_sequence=True)
    padded = arguments["input_ids"].shape[1]
    assert length < padded == -(-length // 16) * 16
    assert list(arguments["seq_lens"]) == [*batch.seq_lens, padded - length]
    assert arguments["position_ids"].shape == (1, padded)
    assert set(arguments["input_ids"][0, length:].tolist()) == {int(batch.input_ids[0, -1])} != {0}
    assert arguments["kernels"] is True


@pytest.mark.parametrize("full_sequence", [True, False])
def test_flat_batch_is_not_padded_without_fused_kernels_or_for_the_whole_output(
    full_sequence: bool,
) -> None:
    model, batch = whole_model(), collate_padding_free(pair_samples())
    set_model_options(model, ModelOptions(fused_kernels=not full_sequence))
    arguments = forward_inputs.forward_inputs(model, batch, full_sequence)
    assert torch.equal(arguments["input_ids"], batch.input_ids)
    assert list(arguments["seq_lens"]) == batch.seq_lens


def test_padded_batch_keeps_its_attention_mask() -> None:
    batch = collate_padded(pair_samples(), pad_token_id=0)
    arguments = forward_inputs.forward_inputs(whole_model(attention="sdpa"), batch, full_sequence=True)
    assert torch.equal(arguments["attention_mask"], batch.attention_mask)
    assert "seq_lens" not in arguments


def test_padding_changes_neither_loss_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = collate_padding_free(pair_samples())
    padded_loss, padded_grads = _step(batch)
    monkeypatch.setattr(forward_inputs, "MULTIPLE", 1)
    loss, grads = _step(batch)
    assert padded_loss == pytest.approx(loss, rel=1e-5)
    for padded, expected in zip(padded_grads, grads, strict=True):
        torch.testing.assert_close(padded, expected, rtol=1e-4, atol=1e-5)


def _groups(size: int) -> list[SequenceParallelGroup]:
    process_group: Any = None
    return [SequenceParallelGroup(rank, size, process_group) for rank in range(size)]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_ranks_of_a_group_get_slices_of_one_padded_sequence(size: int) -> None:
    model, batch = whole_model(), collate_padding_free(pair_samples())
    slices = [
        forward_inputs.forward_inputs(model, replace(batch, sequence=group), full_sequence=True)
        for group in _groups(size)
    ]
    joined = torch.cat([arguments["input_ids"] for arguments in slices], dim=1)
    length = batch.input_ids.shape[1]
    assert torch.equal(joined[:, :length], batch.input_ids)
    assert joined.shape[1] == -(-length // size) * size
    assert {sum(arguments["seq_lens"]) for arguments in slices} == {joined.shape[1]}


@pytest.mark.parametrize("size", [2, 3, 7])
def test_targets_of_ranks_concatenate_to_those_of_the_batch(size: int) -> None:
    whole = collate_padding_free(pair_samples())
    position, ids, before = local_targets(whole)
    following = whole.labels[0, 1:]
    assert torch.equal((following != IGNORE_INDEX).nonzero().flatten(), position)
    assert torch.equal(following[position], ids)
    assert before == 0
    batches = [replace(whole, sequence=group) for group in _groups(size)]
    local = [local_targets(batch) for batch in batches]
    length = -(-whole.labels.shape[1] // size)
    offsets = [positions + rank * length for rank, (positions, _, _) in enumerate(local)]
    assert torch.equal(torch.cat(offsets), position)
    assert torch.equal(torch.cat([part for _, part, _ in local]), ids)
    assert [before for _, _, before in local] == [
        sum(len(ids) for _, ids, _ in local[:rank]) for rank in range(size)
    ]
    counts = [local_target_counts(batch) for batch in batches]
    assert torch.tensor(counts).sum(0).tolist() == whole.targets_per_sample
