"""Attention weights that torch does not compute: soft-capped scores and attention sinks."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from xft.types import SequenceParallelGroup


@dataclass(frozen=True)
class Scores:
    """How attention weights follow from the products of queries and keys.

    Attributes:
        scale: factor of the products.
        dropout: probability that a weight is zeroed.
        sliding_window: number of tokens that a token attends to, itself included; ``None`` for all.
        softcap: bound of the scores; ``None`` for no bound.
        sinks: ``(heads,)`` attention sinks; ``None`` for none.
    """

    scale: float
    dropout: float
    sliding_window: int | None
    softcap: float | None
    sinks: Tensor | None

    @property
    def plain(self) -> bool:
        """Return whether SDPA and the kernels compute these scores."""
        return self.softcap is None and self.sinks is None

    def of_rank(self, group: SequenceParallelGroup) -> "Scores":
        """Return the scores of the heads that a rank of a sequence-parallel group computes."""
        sinks = None if self.sinks is None else self.sinks.chunk(group.size)[group.rank]
        return replace(self, sinks=sinks)


def causal_mask(query: Tensor, window: int | None = None) -> Tensor:
    """Return the ``(seq, seq)`` mask of the keys that each query attends to, within a sliding window if given."""
    position = torch.arange(query.shape[2], device=query.device)
    distance = position[:, None] - position[None, :]
    return distance >= 0 if window is None else (distance >= 0) & (distance < window)


def attention_scores(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scores: Scores
) -> Tensor:
    """Compute attention with soft-capped scores and attention sinks, with all scores in memory.

    Args:
        query: ``(batch, heads, queries, head_dim)``.
        key: ``(batch, key_value_heads, keys, head_dim)``.
        value: ``(batch, key_value_heads, keys, value_dim)``.
        mask: bool, broadcast to ``(batch, heads, queries, keys)``; ``None`` attends to all keys.
        scores: how the weights follow from the products. The sliding window must be part of the mask.

    Returns:
        ``(batch, heads, queries, value_dim)``.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    products = (query @ key.mT * scores.scale).float()
    if scores.softcap is not None:
        products = scores.softcap * torch.tanh(products / scores.softcap)
    if mask is not None:
        # Finite: padding on the left may see no key, and the softmax of infinities alone is NaN.
        products = products.masked_fill(~mask, torch.finfo(products.dtype).min)
    if scores.sinks is not None:
        sinks = scores.sinks.float().view(1, -1, 1, 1).expand(*products.shape[:3], 1)
        products = torch.cat([products, sinks], dim=-1)
    weights = torch.softmax(products, dim=-1)[..., : key.shape[2]].to(query.dtype)
    return nn.functional.dropout(weights, scores.dropout) @ value
