"""Attention over packed samples that are isolated from each other.

Registered with the attention interface of transformers under :data:`ATTN_IMPLEMENTATION`: every model that uses
the interface can select it, and no class is patched. The lengths of the samples are a keyword argument of the
forward call. Attention runs per sample: the cost is the sum of squared lengths, and no mask is built. Without
lengths (in generation) it is plain SDPA.
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
"""Longest sample, in tokens, that :mod:`xft.kernels.attention_blocks` computes on a CPU.

Measured: it is faster than torch beyond that too, but the scores of a block take about 100 MiB with 9 heads."""


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
    """Compute causal attention within each segment of a flat batch.

    Under sequence parallelism, ``seq`` is the length of this rank's slice.

    Args:
        module: the attention layer, for its number of key/value groups.
        query: ``(1, heads, seq, head_dim)``.
        key: ``(1, key_value_heads, seq, head_dim)``.
        value: as ``key``.
        attention_mask: used only without segments.
        dropout: probability, in training.
        scaling: factor of the scores; ``head_dim ** -0.5`` by default.
        sliding_window: number of tokens that a token attends to, itself included.
        seq_lens: lengths of the segments, which sum to ``seq`` over all ranks of the sequence-parallel group.
        kernels: allow ``xft.kernels`` and ``varlen_attn`` of torch.
        sequence: the sequence-parallel group; ``None`` without one.
        kwargs: passed to SDPA without segments.

    Returns:
        ``(1, seq, heads, head_dim)``, and ``None`` in place of attention weights.

    Raises:
        ValueError: the lengths do not sum to ``seq``.
    """
    if seq_lens is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if sequence is not None:
        query, key, value = (seq_to_heads(states, sequence) for states in (query, key, value))
    if sum(seq_lens) != query.shape[2]:
        raise ValueError(f"segments of {sum(seq_lens)} tokens in a batch of {query.shape[2]}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if kernels and dropout == 0 and _has_varlen(query):
        output = _varlen(query, key, value, seq_lens, scale, sliding_window)
    elif kernels and dropout == 0 and _supports_blocks(query, seq_lens):
        output = block_attention(query[0], key[0], value[0], scale, sliding_window, seq_lens)
        output = output[None].transpose(1, 2)
    else:
        output = _per_segment(query, key, value, seq_lens, scale, sliding_window, dropout)
    return output if sequence is None else heads_to_seq(output, sequence), None


def _per_segment(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    scale: float,
    window: int | None,
    dropout: float,
) -> Tensor:
    segments = zip(*(states.split(list(lengths), dim=2) for states in (query, key, value)), strict=True)
    outputs = [
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
        for q, k, v in segments
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous()


def _supports_blocks(query: Tensor, lengths: Sequence[int]) -> bool:
    """Return whether :func:`xft.kernels.block_attention` supports the input. Measured: it is faster then."""
    return (
        query.device.type == "cpu"
        and query.dtype in (torch.bfloat16, torch.float16)
        and max(lengths) <= MAX_BLOCK_LENGTH
    )


def _has_varlen(query: Tensor) -> bool:
    """Return whether ``varlen_attn`` of torch supports the input (flash attention on CUDA)."""
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
    """Return ``varlen_attn`` of torch, if this release supports windows and grouped queries in it."""
    if find_spec("torch.nn.attention.varlen") is None:
        return None
    function: Callable[..., Any] = import_module("torch.nn.attention.varlen").varlen_attn
    required = {"window_size", "enable_gqa", "scale"}
    return function if required <= signature(function).parameters.keys() else None


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float, window: int | None
) -> Tensor:
    varlen_attn = _varlen_attn()
    assert varlen_attn is not None
    ends = torch.tensor([0, *lengths]).cumsum(0).to(query.device, torch.int32, non_blocking=True)
    flat = [states[0].transpose(0, 1) for states in (query, key, value)]
    left = -1 if window is None else window - 1
    output: Tensor = varlen_attn(
        *flat, ends, ends, max(lengths), max(lengths), scale=scale, window_size=(left, 0),
        enable_gqa=key.shape[1] != query.shape[1],
    )  # fmt: skip
    return output[None]


def unused_mask(device: torch.device) -> Tensor:
    """Return the placeholder that is passed as the mask of a flat batch.

    Its four dimensions make transformers accept it as a finished mask and build none. It has no elements:
    attention that ignores the segments and uses the mask fails, instead of mixing samples.
    """
    return torch.empty((1, 1, 0, 0), dtype=torch.bool, device=device)


def _needs_window(query: Tensor, window: int | None) -> bool:
    return window is not None and query.shape[2] > window


def _window_mask(query: Tensor, window: int | None) -> Tensor | None:
    if window is None or not _needs_window(query, window):
        return None
    position = torch.arange(query.shape[2], device=query.device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


AttentionInterface.register(ATTN_IMPLEMENTATION, packed_attention)
AttentionMaskInterface.register(ATTN_IMPLEMENTATION, sdpa_mask)
