"""Weights of experts that are computed in the forward pass are not kept until the backward pass."""

from typing import Any

import torch
from helpers.mixtures import mixture, train_adapter
from helpers.models import PROBE_IDS
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from xft.models import LoRA
from xft.models.expert_weights import recompute_expert_weights


def _adapted(recompute: bool) -> Any:
    model = mixture("mixtral")
    if recompute:
        recompute_expert_weights(model)
    return train_adapter(LoRA(r=2, target_modules="experts").apply(model, [])).train()


def _step(model: Any) -> tuple[list[Tensor], set[torch.Size]]:
    """Return the gradients, and the shapes of the tensors with an expert dimension that autograd keeps."""
    kept: set[torch.Size] = set()

    def pack(tensor: Tensor) -> Tensor:
        if tensor.ndim == 3 and min(tensor.shape) > 2:
            kept.add(tensor.shape)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(input_ids=PROBE_IDS, labels=PROBE_IDS).loss
    loss.backward()
    return [param.grad for param in model.parameters() if param.requires_grad], kept


def test_recomputed_weights_give_the_same_gradients_and_are_not_kept() -> None:
    (grads, kept), (expected, before) = (_step(_adapted(flag)) for flag in (True, False))
    for grad, other in zip(grads, expected, strict=True):
        assert torch.equal(grad, other)
    assert len(before - kept) == 2  # gate_up_proj and down_proj of all experts


def test_full_training_has_no_recomputed_weights() -> None:
    model, plain = mixture("mixtral"), mixture("mixtral")
    recompute_expert_weights(model)
    recompute_expert_weights(model)
    for part in (model, plain):
        part(input_ids=PROBE_IDS, labels=PROBE_IDS).loss.backward()
    for param, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(param.grad, other.grad)
