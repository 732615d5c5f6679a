"""Causal attention of samples that stand one behind the other, by plain matrix products.

``softmax(s Q Kᵀ) V``, a block of queries at a time with the keys before them. torch's fused attention on a
CPU is made for many long sequences, and a packed row is a few short ones: its backward pass takes two to
three times as long as these products do. Scores and softmax are fp32, whatever the type of the rest.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from xft.kernels.shapes import MULTIPLE, whole

BLOCK, LONG_BLOCK = 176, 144
"""Most queries in a block of a sample up to :data:`KEPT`, and of a longer one. The blocks of a sample are of one size, as
a small one at its end costs nearly what a large one does."""
KEPT = 512
"""Tokens of a sample up to which the probabilities are kept for the backward pass, in the type of the input;
of a longer one they are made again, so that memory grows with the tokens and not with their square."""


def block_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float,
    window: int | None = None,
    lengths: Sequence[int] | None = None,
) -> Tensor:
    """Causal attention with grouped queries.

    Args:
        query: ``(heads, seq, head_dim)``.
        key: ``(key_value_heads, seq, head_dim)``; ``heads`` is a multiple of their number.
        value: as ``key``.
        scaling: of the scores.
        window: how many tokens back a token sees, itself included; all where it is ``None``.
        lengths: of the samples, which add up to ``seq``; a single one where it is ``None``.

    Returns:
        ``(heads, seq, head_dim)``, in memory ``(seq, heads, head_dim)``.
    """
    lengths = [query.shape[1]] if lengths is None else list(lengths)
    result: Tensor = _BlockAttention.apply(query, key, value, scaling, window, lengths)
    return result


def block_attention_eager(
    query: Tensor, key: Tensor, value: Tensor, scaling: float, window: int | None = None
) -> Tensor:
    """Compute the same with eager torch operations and all scores in memory."""
    key, value = (each.repeat_interleave(query.shape[0] // key.shape[0], dim=0) for each in (key, value))
    wide = torch.promote_types(query.dtype, torch.float32)
    position = torch.arange(query.shape[1])
    back = position[:, None] - position
    hidden = (back < 0) | (back >= (window or len(position)))
    scores = query.to(wide) @ key.to(wide).transpose(1, 2) * scaling
    return scores.masked_fill(hidden, -torch.inf).softmax(dim=-1).to(query.dtype) @ value


class _Block(NamedTuple):
    """Queries, and the keys that they may see: places in the row, the last of which may lie behind its end.

    Attributes:
        rows: the queries.
        columns: the keys, which end where the queries do.
        own: how many of the queries are the sample's; the others behind them are of the samples that follow.
    """

    rows: slice
    columns: slice
    own: int


def _blocks(begin: int, end: int, window: int | None) -> Iterator[_Block]:
    """Which queries of a sample go with which keys."""
    length = end - begin
    count = -(-length // (BLOCK if length <= KEPT else LONG_BLOCK))
    size = whole(-(-length // count)) if count else MULTIPLE
    for start in range(begin, end, size):
        own = min(size, end - start)
        stop = start + whole(own)
        first = begin if window is None else max(begin, start + 1 - window)
        yield _Block(slice(start, stop), slice(first, stop), own)


def _fold(tensor: Tensor, groups: int) -> Tensor:
    """``(heads, rows, dim)`` to ``(key_value_heads, groups * rows, dim)``: one product for each of their keys."""
    return tensor.reshape(len(tensor) // groups, groups * tensor.shape[1], -1)


@lru_cache(maxsize=64)
def _hidden(rows: int, ahead: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to scores: ``-inf`` where a key is not seen, ``(rows, ahead + rows)``.

    Args:
        rows: queries; the last of them stands at the last key.
        ahead: keys before the first query.
        window: as in :func:`block_attention`.
        dtype: of the scores.
        device: of the scores.
    """
    back = torch.arange(ahead, ahead + rows, device=device)[:, None] - torch.arange(
        ahead + rows, device=device
    )
    hidden = (back < 0) | (back >= (window or ahead + rows))
    return torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, -torch.inf)


def _products_in_bf16() -> Any:
    """oneDNN's setting of how fp32 products are taken on a CPU; ``None`` where this torch has none.

    Numbers that came from bf16 lose nothing by going back to it: their products are added up in fp32 all
    the same, and scores stay fp32, which no product of bf16 tensors gives. It takes half the time.
    """
    found = getattr(torch.backends.mkldnn, "matmul", None)
    return found if hasattr(found, "fp32_precision") else None


def _scores(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    wide = torch.promote_types(query.dtype, torch.float32)
    empty = torch.empty((), dtype=wide, device=query.device)
    one, two = query.to(wide), key.to(wide).transpose(1, 2)
    products = _products_in_bf16() if query.dtype == torch.bfloat16 and not query.is_cuda else None
    if products is None:
        return torch.baddbmm(empty, one, two, beta=0, alpha=scaling)
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        return torch.baddbmm(empty, one, two, beta=0, alpha=scaling)
    finally:
        products.fp32_precision = before


def _probabilities(
    query: Tensor, key: Tensor, scaling: float, window: int | None, rows: slice, columns: slice
) -> Tensor:
    """Of a folded block of queries over its keys, in the type of the query."""
    scores = _scores(query, key, scaling)
    size = rows.stop - rows.start
    blocks = scores.view(len(key), -1, size, columns.stop - columns.start)
    # Without a window only the keys of the block itself may lie ahead.
    first = rows.start if window is None else columns.start
    blocks[..., first - columns.start :] += _hidden(
        size, rows.start - first, window, scores.dtype, scores.device
    )
    return scores.softmax(dim=-1).to(query.dtype)


class _BlockAttention(torch.autograd.Function):
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
        heads, total, width = query.shape
        result = query.new_empty(total + MULTIPLE, heads, width).transpose(0, 1)
        kept = []
        for begin, end in _samples(lengths):
            for rows, columns, _ in _blocks(begin, end, window):
                folded = _fold(_take(query, rows), heads // len(key))
                found = _probabilities(folded, _take(key, columns), scaling, window, rows, columns)
                # What is written for queries of the next sample is written anew for it.
                result[:, rows] = torch.bmm(found, _take(value, columns)).view(heads, -1, width)
                if end - begin <= KEPT:
                    kept.append(found)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.scaling, ctx.window, ctx.lengths = scaling, window, lengths
        return result[:, :total]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        heads, total, width = query.shape
        groups = heads // len(key)
        wide = torch.promote_types(query.dtype, torch.float32)
        grad_query = query.new_empty(total + MULTIPLE, heads, width).transpose(0, 1)
        sums = torch.zeros(2, len(key), total + MULTIPLE, width, dtype=wide, device=key.device)
        sum_key, sum_value = sums
        waiting = iter(kept)
        for begin, end in _samples(ctx.lengths):
            for rows, columns, own in _blocks(begin, end, ctx.window):
                q, k = _fold(_take(query, rows), groups), _take(key, columns)
                g = _fold(_only(_take(grad, rows), own), groups)
                if end - begin <= KEPT:
                    p = next(waiting)
                else:
                    p = _probabilities(q, k, ctx.scaling, ctx.window, rows, columns)
                sum_value[:, columns] += torch.bmm(p.transpose(1, 2), g)
                upstream = torch.bmm(g, _take(value, columns).transpose(1, 2))
                scores = torch._softmax_backward_data(upstream, p, -1, p.dtype)
                sum_key[:, columns] += torch.bmm(scores.transpose(1, 2), q)
                grad_query[:, rows] = torch.bmm(scores, k).view(heads, -1, width)
        sum_key *= ctx.scaling
        grad_key, grad_value = (each[:, :total].to(key.dtype) for each in sums)
        return grad_query[:, :total].mul_(ctx.scaling), grad_key, grad_value, None, None, None


def _samples(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where each sample begins and ends."""
    return pairwise(accumulate(lengths, initial=0))


def _take(tensor: Tensor, places: slice) -> Tensor:
    """``(heads, places, head_dim)``, filled up with zeros behind the end of the row."""
    found = tensor[:, places]
    behind = places.stop - places.start - found.shape[1]
    return pad(found, (0, 0, 0, behind)) if behind else found


def _only(grad: Tensor, own: int) -> Tensor:
    """``(heads, rows, head_dim)`` with nothing behind the first ``own`` rows, so that those add to no gradient."""
    if own == grad.shape[1]:
        return grad
    grad = grad.clone()
    grad[:, own:] = 0
    return grad
