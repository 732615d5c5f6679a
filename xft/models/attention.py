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
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from xft.distributed import heads_to_seq, seq_to_heads
from xft.kernels import block_attention
from xft.models.attention_scores import Scores, attention_scores, causal_mask
from xft.models.families import optional_field
from xft.types import SequenceParallelGroup

ATTN_IMPLEMENTATION = "xft_packed"

MAX_BLOCK_LENGTH = 8192
"""Longest sample, in tokens, that :mod:`xft.kernels.attention_blocks` computes on a CPU.

Measured: it is faster than torch beyond that too, but the scores of a block take about 100 MiB with 9 heads."""


_INERT = {
    "position_ids", "cache_position", "use_cache", "output_attentions", "output_hidden_states", "return_dict",
    "position_embeddings", "is_causal", "cache", "deterministic",
}  # fmt: skip
"""Arguments that models pass to every attention, and that do not change its result in a causal decoder."""


class SegmentLengths(Sequence[int]):
    """Lengths of the segments of a flat batch, as an argument of a forward call.

    Why a class: ``torch.compile`` compiles a layer again for each new list of numbers, and not for a new object.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = lengths

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        """Return the length of a segment, or those of a slice."""
        return self._lengths[index]

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self._lengths)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # its loops would be compiled for each list of lengths
def packed_attention(  # noqa: PLR0913  The arguments are those of the attention interface of transformers.
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
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
        value: ``(1, key_value_heads, seq, value_dim)``.
        attention_mask: used only without segments.
        dropout: probability, in training.
        scaling: factor of the scores; ``head_dim ** -0.5`` by default.
        sliding_window: number of tokens that a token attends to, itself included.
        softcap: the scores are ``softcap · tanh(scores / softcap)`` (Gemma 2, https://arxiv.org/abs/2408.00118).
        s_aux: ``(heads,)`` sinks: scores without a value (Xiao et al. 2023, https://arxiv.org/abs/2309.17453).
        seq_lens: lengths of the segments, which sum to ``seq`` over all ranks of the sequence-parallel group.
        kernels: allow ``xft.kernels`` and ``varlen_attn`` of torch.
        sequence: the sequence-parallel group; ``None`` without one.
        kwargs: passed to SDPA without segments.

    Returns:
        ``(1, seq, heads, value_dim)``, and ``None`` in place of attention weights.

    Raises:
        ValueError: the lengths do not sum to ``seq``, or an argument is not known here.
    """
    _check_arguments(kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = Scores(scale, dropout, sliding_window, softcap, s_aux)
    if seq_lens is None:
        if not scores.plain:
            return _masked(query, key, value, attention_mask, scores), None
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if sequence is not None:
        query, key, value = (seq_to_heads(states, sequence) for states in (query, key, value))
        scores = scores.of_rank(sequence)
    if sum(seq_lens) != query.shape[2]:
        raise ValueError(f"segments of {sum(seq_lens)} tokens in a batch of {query.shape[2]}")
    if (chunk := _chunk_size(module)) is not None:
        seq_lens = split_chunks(seq_lens, chunk)
    output = _segmented(query, key, value, seq_lens, scores, kernels)
    return output if sequence is None else heads_to_seq(output, sequence), None


def _check_arguments(arguments: dict[str, Any]) -> None:
    """Raise ``ValueError`` for an argument that this attention would ignore, and with it a part of the model."""
    unknown = [
        name
        for name, value in arguments.items()
        if name not in _INERT and value is not None and value is not False
    ]
    if unknown:
        raise ValueError(
            f"attention with {', '.join(sorted(unknown))} is not supported by {ATTN_IMPLEMENTATION}"
        )


def _chunk_size(module: nn.Module) -> int | None:
    """Return the number of tokens of a chunk that a layer attends within (Llama 4); ``None`` for the whole sample."""
    layer: Any = module
    if "config" not in vars(module) or optional_field(layer.config, "attention_chunk_size") is None:
        return None
    config = layer.config
    return (
        config.attention_chunk_size if config.layer_types[layer.layer_idx] == "chunked_attention" else None
    )


def split_chunks(lengths: Sequence[int], size: int) -> list[int]:
    """Split each length into chunks of ``size`` and a rest: attention within chunks is attention over shorter samples."""
    return [min(size, length - begin) for length in lengths for begin in range(0, length, size)]


def _masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scores: Scores) -> Tensor:
    """Compute attention with the mask of transformers, which is ``None`` for a causal mask or a single query."""
    if mask is None and query.shape[2] > 1:
        mask = causal_mask(query)
    return attention_scores(query, key, value, mask, scores).transpose(1, 2).contiguous()


def _segmented(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scores: Scores, kernels: bool
) -> Tensor:
    """Choose the fastest function that computes the scores of the segments."""
    fused = kernels and scores.dropout == 0 and scores.plain and query.shape[-1] == value.shape[-1]
    if fused and _has_varlen(query):
        return _varlen(query, key, value, lengths, scores.scale, scores.sliding_window)
    if fused and _supports_blocks(query, lengths):
        window = scores.sliding_window
        return block_attention(query[0], key[0], value[0], scores.scale, window, lengths)[None].transpose(
            1, 2
        )
    return _per_segment(query, key, value, lengths, scores)


def _per_segment(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scores: Scores
) -> Tensor:
    segments = zip(*(states.split(list(lengths), dim=2) for states in (query, key, value)), strict=True)
    if not scores.plain:
        outputs = [
            attention_scores(q, k, v, causal_mask(q, scores.sliding_window), scores) for q, k, v in segments
        ]
    else:
        window = scores.sliding_window
        outputs = [
            scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=causal_mask(q, window) if _needs_window(q, window) else None,
                dropout_p=scores.dropout,
                is_causal=not _needs_window(q, window),
                scale=scores.scale,
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


AttentionInterface.register(ATTN_IMPLEMENTATION, packed_attention)
AttentionMaskInterface.register(ATTN_IMPLEMENTATION, sdpa_mask)
