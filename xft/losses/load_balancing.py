"""Auxiliary loss of mixture-of-experts models, and the load of their experts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Sum = Callable[[Tensor], Tensor]
"""Sums a tensor over the ranks that share a sequence."""


def load_balancing_loss(
    router_logits: Sequence[Tensor],
    top_k: int,
    mask: Tensor | None = None,
    total: Sum = lambda tensor: tensor,
) -> Tensor:
    r"""Compute the load-balancing loss of Switch Transformer (Fedus et al. 2021, https://arxiv.org/abs/2101.03961).

    With E experts it is :math:`E \sum_e f_e P_e`, where :math:`f_e` is the number of tokens that the routers send to
    expert e, per token, and :math:`P_e` the mean probability of the expert, over all tokens of all layers. It equals
    ``top_k`` if the load is balanced. transformers computes the same.

    Args:
        router_logits: ``(tokens, experts)`` of each layer.
        top_k: number of experts of a token.
        mask: ``(tokens,)``, 0 for padding; ``None`` without padding.
        total: sums over the ranks that share the tokens, differentiably.

    Returns:
        A scalar in fp32.
    """
    counts, probs, tokens = [], [], []
    for logits in router_logits:
        weights = torch.softmax(logits, dim=-1)
        selected = torch.topk(weights, top_k, dim=-1).indices
        counts.append(expert_counts(selected, logits.shape[-1], mask))
        kept = weights.float() if mask is None else weights.float() * mask[:, None]
        probs.append(kept.sum(dim=0))
        tokens.append(kept.new_tensor(float(len(logits))) if mask is None else mask.sum().float())
    sums = total(
        torch.cat([torch.stack(counts).sum(0), torch.stack(probs).sum(0), torch.stack(tokens).sum()[None]])
    )
    (loads, mass), count = sums[:-1].chunk(2), sums[-1].detach()
    return len(loads) * (loads.detach() * mass).sum() / count**2


def expert_counts(selected: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """Count the tokens of each expert, without a synchronization of the device.

    Args:
        selected: ``(tokens, top_k)`` indices of experts.
        num_experts: number of experts.
        mask: ``(tokens,)``, 0 for padding; ``None`` without padding.

    Returns:
        ``(experts,)`` in fp32.
    """
    ones = torch.ones_like(selected, dtype=torch.float32)
    if mask is not None:
        ones = ones * mask[:, None]
    counts = torch.zeros(num_experts, device=selected.device)
    return counts.scatter_add_(0, selected.flatten(), ones.flatten())
