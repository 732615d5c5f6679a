"""Formulas of the kernels in eager torch operations, to compare the kernels with."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def block_attention_eager(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None = None
) -> Tensor:
    """Compute causal attention of one sample with all scores in memory."""
    groups = query.shape[0] // key.shape[0]
    key, value = (tensor.repeat_interleave(groups, dim=0) for tensor in (key, value))
    wide = torch.promote_types(query.dtype, torch.float32)
    position = torch.arange(query.shape[1])
    distance = position[:, None] - position
    masked = (distance < 0) | (distance >= (window or len(position)))
    scores = query.to(wide) @ key.to(wide).transpose(1, 2) * scaling
    return scores.masked_fill(masked, -torch.inf).softmax(dim=-1).to(query.dtype) @ value


def linear_cross_entropy_eager(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the summed cross-entropy and the number of correct predictions with all logits in memory."""
    logits = functional.linear(states, weight, bias)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    correct = (logits.argmax(dim=-1) == targets).sum()
    return functional.cross_entropy(wide, targets, reduction="sum"), correct


def linear_log_probs_eager(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Compute log-probabilities of targets with all logits in memory."""
    logits = functional.linear(states, weight, bias)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]


def lora_linear_eager(
    x: Tensor,
    weight: Callable[[], Tensor],
    bias: Tensor | None,
    lora_a: Tensor,
    lora_b: Tensor,
    scaling: float,
    dropped: Tensor | None = None,
) -> Tensor:
    """Compute a LoRA layer as peft does: the adapter in its own type."""
    inner = (x if dropped is None else dropped).to(lora_a.dtype)
    update = functional.linear(functional.linear(inner, lora_a), lora_b) * scaling
    return (functional.linear(x, weight(), bias) + update).to(x.dtype)
