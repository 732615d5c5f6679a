"""Causal attention within the samples of a packed row, by matrix products of blocks.

``softmax(s Q Kᵀ) V`` for one block of queries at a time and the keys before them. Scores and softmax are fp32 for inputs
of any type.

Why by hand: torch's fused attention on a CPU is optimized for many long sequences; a packed row is a few short ones.
Measured: its backward pass takes two to three times as long as these products.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from xft.kernels.shapes import MULTIPLE, round_up

BLOCK, LONG_BLOCK = 176, 144
"""Maximum number of queries per block, of samples up to :data:`SAVED_PROBS_LIMIT` tokens and of longer ones. All blocks of
a sample have one size: a small block at its end would take nearly as long as a large one."""
SAVED_PROBS_LIMIT = 512
"""Length up to which the probabilities of a sample are saved for the backward pass, in the type of the input. Those of
longer samples are recomputed, so that memory grows linearly with the number of tokens."""


def block_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    window: int | None = None,
    lengths: Sequence[int] | None = None,
) -> Tensor:
    """Compute causal grouped-query attention within each sample.

    Args:
        query: ``(heads, seq, head_dim)``.
        key: ``(key_value_heads, seq, head_dim)``; ``heads`` is a multiple of ``key_value_heads``.
        value: ``(key_value_heads, seq, head_dim)``.
        scaling: factor of the scores.
        window: size of the sliding window in tokens, the query included; ``None`` for full attention.
        lengths: lengths of the samples, which sum to ``seq``; ``None`` for a single sample.

    Returns:
        ``(heads, seq, head_dim)``, a view of a ``(seq, heads, head_dim)`` tensor.
    """
    lengths = [query.shape[1]] if lengths is None else list(lengths)
    result: Tensor = _BlockAttention.apply(query, key, value, scaling, window, lengths)
    return result


class _Block(NamedTuple):
    """Block of queries and their keys, as slices of the row. Its end may exceed the end of the row.

    Attributes:
        rows: queries.
        columns: keys; they end at the last query.
        num_queries: number of queries of the sample; the remaining rows are padding from the next samples.
    """

    rows: slice
    columns: slice
    num_queries: int


def _blocks(begin: int, end: int, window: int | None) -> Iterator[_Block]:
    """Divide a sample, tokens ``begin`` to ``end`` of the row, into blocks of equal size."""
    length = end - begin
    count = -(-length // (BLOCK if length <= SAVED_PROBS_LIMIT else LONG_BLOCK))
    size = round_up(-(-length // count)) if count else MULTIPLE
    for start in range(begin, end, size):
        num_queries = min(size, end - start)
        stop = start + round_up(num_queries)
        first = begin if window is None else max(begin, start + 1 - window)
        yield _Block(slice(start, stop), slice(first, stop), num_queries)


def _group_heads(tensor: Tensor, groups: int) -> Tensor:
    """Reshape ``(heads, rows, dim)`` to ``(key_value_heads, groups * rows, dim)``, one product per key-value head."""
    return tensor.reshape(len(tensor) // groups, groups * tensor.shape[1], -1)


@lru_cache(maxsize=64)
def _causal_window_mask(
    rows: int, num_before: int, window: int | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Build the additive mask ``(rows, num_before + rows)``: ``-inf`` for masked keys, else 0.

    Args:
        rows: number of queries; the last query is at the last key.
        num_before: number of keys before the first query.
        window: as in :func:`block_attention`.
        dtype: type of the scores.
        device: device of the scores.
    """
    num_keys = num_before + rows
    queries = torch.arange(num_before, num_keys, device=device)
    distance = queries[:, None] - torch.arange(num_keys, device=device)
    masked = (distance < 0) | (distance >= (window or num_keys))
    return torch.zeros(masked.shape, dtype=dtype, device=device).masked_fill_(masked, -torch.inf)


def _fp32_matmul_setting() -> Any:
    """Return oneDNN's setting for the precision of fp32 products on a CPU; ``None`` if this torch has none.

    With "bf16", oneDNN rounds the factors to bf16 and accumulates in fp32. Factors that were converted from bf16 are
    unchanged, and the scores are fp32, unlike a product of bf16 tensors. Measured: half the time.
    """
    setting = getattr(torch.backends.mkldnn, "matmul", None)
    return setting if hasattr(setting, "fp32_precision") else None


def _scores(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    wide = torch.promote_types(query.dtype, torch.float32)
    empty = torch.empty((), dtype=wide, device=query.device)
    query_wide, key_wide = query.to(wide), key.to(wide).transpose(1, 2)
    setting = _fp32_matmul_setting() if query.dtype == torch.bfloat16 and not query.is_cuda else None
    if setting is None:
        return torch.baddbmm(empty, query_wide, key_wide, beta=0, alpha=scaling)
    previous = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        return torch.baddbmm(empty, query_wide, key_wide, beta=0, alpha=scaling)
    finally:
        setting.fp32_precision = previous


def _probabilities(
    query: Tensor, key: Tensor, scaling: float, window: int | None, rows: slice, columns: slice
) -> Tensor:
    """Compute the probabilities of a block of grouped queries over its keys, in the type of the query."""
    scores = _scores(query, key, scaling)
    size = rows.stop - rows.start
    blocks = scores.view(len(key), -1, size, columns.stop - columns.start)
    # Without a window, only keys of the block itself can follow a query.
    first = rows.start if window is None else columns.start
    blocks[..., first - columns.start :] += _causal_window_mask(
        size, rows.start - first, window, scores.dtype, scores.device
    )
    return scores.softmax(dim=-1).to(query.dtype)


class _BlockAttention(torch.autograd.Function):
    """Attention of :func:`block_attention`."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        window: int | None,
        lengths: list[int],
    ) -> Tensor:
        """Return ``(heads, tokens, head_dim)``; keep the probabilities of short samples."""
        heads, total, width = query.shape
        result = query.new_empty(total + MULTIPLE, heads, width).transpose(0, 1)
        saved_probs = []
        for begin, end in _sample_bounds(lengths):
            for rows, columns, _ in _blocks(begin, end, window):
                grouped = _group_heads(_padded_slice(query, rows), heads // len(key))
                probs = _probabilities(grouped, _padded_slice(key, columns), scaling, window, rows, columns)
                # Results of padding rows are overwritten by the next sample.
                result[:, rows] = torch.bmm(probs, _padded_slice(value, columns)).view(heads, -1, width)
                if end - begin <= SAVED_PROBS_LIMIT:
                    saved_probs.append(probs)
        ctx.save_for_backward(query, key, value, *saved_probs)
        ctx.scaling, ctx.window, ctx.lengths = scaling, window, lengths
        return result[:, :total]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, key and value; ``grad`` is ``(heads, tokens, head_dim)``."""
        query, key, value, *saved_probs = ctx.saved_tensors
        heads, total, width = query.shape
        groups = heads // len(key)
        wide = torch.promote_types(query.dtype, torch.float32)
        grad_query = query.new_empty(total + MULTIPLE, heads, width).transpose(0, 1)
        sums = torch.zeros(2, len(key), total + MULTIPLE, width, dtype=wide, device=key.device)
        sum_key, sum_value = sums
        next_probs = iter(saved_probs)
        for begin, end in _sample_bounds(ctx.lengths):
            for rows, columns, num_queries in _blocks(begin, end, ctx.window):
                q, k = _group_heads(_padded_slice(query, rows), groups), _padded_slice(key, columns)
                g = _group_heads(_zero_after(_padded_slice(grad, rows), num_queries), groups)
                if end - begin <= SAVED_PROBS_LIMIT:
                    p = next(next_probs)
                else:
                    p = _probabilities(q, k, ctx.scaling, ctx.window, rows, columns)
                sum_value[:, columns] += torch.bmm(p.transpose(1, 2), g)
                upstream = torch.bmm(g, _padded_slice(value, columns).transpose(1, 2))
                scores = torch._softmax_backward_data(upstream, p, -1, p.dtype)
                sum_key[:, columns] += torch.bmm(scores.transpose(1, 2), q)
                grad_query[:, rows] = torch.bmm(scores, k).view(heads, -1, width)
        sum_key *= ctx.scaling
        grad_key, grad_value = (grad_sum[:, :total].to(key.dtype) for grad_sum in sums)
        return grad_query[:, :total].mul_(ctx.scaling), grad_key, grad_value, None, None, None


def _sample_bounds(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first token of each sample and the token after its last one."""
    return pairwise(accumulate(lengths, initial=0))


def _padded_slice(tensor: Tensor, rows: slice) -> Tensor:
    """Return ``(heads, rows, head_dim)``, with zeros for rows after the end of the tensor."""
    part = tensor[:, rows]
    num_missing = rows.stop - rows.start - part.shape[1]
    return pad(part, (0, 0, 0, num_missing)) if num_missing else part


def _zero_after(grad: Tensor, num_queries: int) -> Tensor:
    """Return ``(heads, rows, head_dim)`` with zeros after ``num_queries`` rows; padding has no gradient."""
    if num_queries == grad.shape[1]:
        return grad
    grad = grad.clone()
    grad[:, num_queries:] = 0
    return grad
