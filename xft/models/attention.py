"""Attention over samples that stand one behind the other, each seeing only itself.

Registered with transformers' attention interface under :data:`PACKED`, for every model that
uses it, without touching a class. The lengths of the samples travel as a keyword argument of
the forward call. Each sample is attended to on its own, so the work is the sum of squared
lengths and no mask is ever made; without lengths (in generation) it is plain SDPA.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

PACKED = "xft_packed"


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    segment_lengths: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each segment of a flat batch.

    Args:
        module: the attention layer, for its number of key/value groups.
        query: ``(1, heads, seq, head_dim)``.
        key: ``(1, key_value_heads, seq, head_dim)``.
        value: as ``key``.
        attention_mask: used where there are no segments; otherwise ignored.
        dropout: probability, in training.
        scaling: factor of the scores; one over the root of ``head_dim`` by default.
        sliding_window: how many tokens back a token sees, itself included.
        segment_lengths: lengths that add up to ``seq``.
        kwargs: passed on where there are no segments.

    Returns:
        ``(1, seq, heads, head_dim)``, and no weights.

    Raises:
        ValueError: the lengths do not add up to ``seq``.
    """
    if segment_lengths is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if sum(segment_lengths) != query.shape[2]:
        raise ValueError(f"segments of {sum(segment_lengths)} tokens in a batch of {query.shape[2]}")
    grouped = key.shape[1] != query.shape[1]
    pieces = [
        scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_window_mask(q, sliding_window),
            dropout_p=dropout,
            is_causal=not _needs_window(q, sliding_window),
            scale=scaling,
            enable_gqa=grouped,
        )
        for q, k, v in zip(
            *(each.split(list(segment_lengths), dim=2) for each in (query, key, value)), strict=True
        )
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2).contiguous(), None


def placeholder_mask(device: torch.device) -> Tensor:
    """What is passed as the mask of a flat batch.

    It has four dimensions, which transformers takes for a finished mask and makes none of its
    own, and no elements: attention that would use it, and not the segments, fails at once
    instead of letting samples see each other.
    """
    return torch.empty((1, 1, 0, 0), dtype=torch.bool, device=device)


def _needs_window(query: Tensor, window: int | None) -> bool:
    return window is not None and query.shape[2] > window


def _window_mask(query: Tensor, window: int | None) -> Tensor | None:
    if window is None or not _needs_window(query, window):
        return None
    position = torch.arange(query.shape[2], device=query.device)
    back = position[:, None] - position[None, :]
    return (back >= 0) & (back < window)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
