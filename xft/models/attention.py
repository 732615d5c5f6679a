"""Attention over samples that stand one behind the other, each seeing only itself.

Registered with transformers' attention interface under :data:`PACKED`, for every model that
uses it, without touching a class. The lengths of the samples travel as a keyword argument of
the forward call. Each sample is attended to on its own, so the work is the sum of squared
lengths and no mask is ever made; without lengths (in generation) it is plain SDPA.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from xft.distributed import heads_to_seq, seq_to_heads
from xft.kernels import block_attention
from xft.types import SequenceParallelGroup

ATTN_IMPLEMENTATION = "xft_packed"

MAX_BLOCK_LENGTH = 8192
"""Tokens of a sample up to which :func:`xft.kernels.attention_blocks` is used on a CPU. It is faster than torch's beyond
that too, but a block's scores take memory: with 9 heads some 100 MiB at this length."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    seq_lens: Sequence[int] | None = None,
    kernels: bool = False,
    sequence: SequenceParallelGroup | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each segment of a flat batch.

    Where ranks share the tokens out, ``seq`` is the share of this rank.

    Args:
        module: the attention layer, for its number of key/value groups.
        query: ``(1, heads, seq, head_dim)``.
        key: ``(1, key_value_heads, seq, head_dim)``.
        value: as ``key``.
        attention_mask: used where there are no segments; otherwise ignored.
        dropout: probability, in training.
        scaling: factor of the scores; one over the root of ``head_dim`` by default.
        sliding_window: how many tokens back a token sees, itself included.
        seq_lens: lengths that add up to ``seq``, of all ranks that share the tokens out.
        kernels: whether ``xft.kernels`` and ``varlen_attn`` of torch may be used.
        sequence: the ranks that share the tokens out.
        kwargs: passed on where there are no segments.

    Returns:
        ``(1, seq, heads, head_dim)``, and no weights.

    Raises:
        ValueError: the lengths do not add up to ``seq``.
    """
    if seq_lens is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if sequence is not None:
        query, key, value = (seq_to_heads(each, sequence) for each in (query, key, value))
    if sum(seq_lens) != query.shape[2]:
        raise ValueError(f"segments of {sum(seq_lens)} tokens in a batch of {query.shape[2]}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if kernels and dropout == 0 and _has_varlen(query):
        found = _varlen(query, key, value, seq_lens, scale, sliding_window)
    elif kernels and dropout == 0 and _in_blocks(query, seq_lens):
        found = block_attention(query[0], key[0], value[0], scale, sliding_window, seq_lens)
        found = found[None].transpose(1, 2)
    else:
        found = _per_segment(query, key, value, seq_lens, scale, sliding_window, dropout)
    return found if sequence is None else heads_to_seq(found, sequence), None


def _per_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    scale: float,
    window: int | None,
    dropout: float,
) -> Tensor:
    pieces = zip(*(each.split(list(lengths), dim=2) for each in (query, key, value)), strict=True)
    results = [
        scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_window_mask(q, window),
            dropout_p=dropout,
            is_causal=not _needs_window(q, window),
            scale=scale,
            enable_gqa=key.shape[1] != query.shape[1],
        )
        for q, k, v in pieces
    ]
    return torch.cat(results, dim=2).transpose(1, 2).contiguous()


def _in_blocks(query: Tensor, lengths: Sequence[int]) -> bool:
    """Whether our own attention is faster than torch's, as measured."""
    return (
        query.device.type == "cpu"
        and query.dtype in (torch.bfloat16, torch.float16)
        and max(lengths) <= MAX_BLOCK_LENGTH
    )


def _has_varlen(query: Tensor) -> bool:
    """Whether torch has attention over lengths of their own for these: flash attention of CUDA."""
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.bfloat16, torch.float16)
        and query.shape[-1] % 8 == 0
        and query.shape[-1] <= 256
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
        and _varlen_attn() is not None
    )


@cache
def _varlen_attn() -> Callable[..., Any] | None:
    """The function of torch, where this release has it, with windows and grouped queries."""
    if find_spec("torch.nn.attention.varlen") is None:
        return None
    found: Callable[..., Any] = import_module("torch.nn.attention.varlen").varlen_attn
    return found if {"window_size", "enable_gqa", "scale"} <= signature(found).parameters.keys() else None


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float, window: int | None
) -> Tensor:
    varlen_attn = _varlen_attn()
    assert varlen_attn is not None
    ends = torch.tensor([0, *lengths]).cumsum(0).to(query.device, torch.int32, non_blocking=True)
    flat = [each[0].transpose(0, 1) for each in (query, key, value)]
    back = -1 if window is None else window - 1
    found: Tensor = varlen_attn(
        *flat, ends, ends, max(lengths), max(lengths), scale=scale, window_size=(back, 0),
        enable_gqa=key.shape[1] != query.shape[1],
    )  # fmt: skip
    return found[None]


def unused_mask(device: torch.device) -> Tensor:
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


AttentionInterface.register(ATTN_IMPLEMENTATION, packed_attention)
AttentionMaskInterface.register(ATTN_IMPLEMENTATION, sdpa_mask)
