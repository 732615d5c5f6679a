"""Split one batch over several ranks along the sequence: DeepSpeed-Ulysses (Jacobs et al. 2023,
https://arxiv.org/abs/2309.14509).

Every layer except attention processes tokens independently, which lets each rank of a group compute a slice of
the sequence. Attention needs all tokens: an all-to-all before it exchanges a slice of the sequence with all heads for
all tokens with a slice of the heads, and an all-to-all after it reverses the exchange.

The whole packed row is split into equal slices. Samples may cross slice boundaries; attention still sees each
sample completely. A length that is not a multiple of the group size is padded at the end with a segment of its own.
"""

from math import gcd
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn.functional import pad

from xft.errors import ConfigError
from xft.types import SequenceParallelGroup

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def padded_length(length: int, group: SequenceParallelGroup) -> int:
    """Round a sequence length up to a multiple of the group size."""
    return -(-length // group.size) * group.size


def split_sequence(tensor: Tensor, group: SequenceParallelGroup, fill: float = 0) -> Tensor:
    """Return this rank's slice of a sequence.

    Args:
        tensor: ``(1, seq)``, identical on every rank of the group.
        group: ranks that share the sequence.
        fill: value of the padding.

    Returns:
        ``(1, seq_local)``; the slices of all ranks, concatenated, have ``padded_length`` tokens.
    """
    length = tensor.shape[1]
    padded = pad(tensor, (0, padded_length(length, group) - length), value=fill)
    return padded.tensor_split(group.size, dim=1)[group.rank]


def seq_to_heads(states: Tensor, group: SequenceParallelGroup) -> Tensor:
    """Exchange all heads of this rank's tokens for all tokens of this rank's heads.

    Args:
        states: ``(1, heads, seq_local, head_dim)``. Heads are repeated if their number is not a multiple of the group
            size (key and value heads of grouped-query attention).
        group: ranks that share the sequence.

    Returns:
        ``(1, heads / ranks, seq_local * ranks, head_dim)``.
    """
    heads = states.shape[1]
    states = states.repeat_interleave(group.size // gcd(heads, group.size), dim=1)
    pieces = states[0].unflatten(0, (group.size, -1))  # (ranks, heads, seq_local, head_dim)
    return _all_to_all(pieces, group).transpose(0, 1).flatten(1, 2)[None]


def heads_to_seq(states: Tensor, group: SequenceParallelGroup) -> Tensor:
    """Exchange all tokens of this rank's heads for all heads of this rank's tokens.

    Args:
        states: ``(1, seq_local * ranks, heads / ranks, head_dim)``, the layout that attention returns.
        group: ranks that share the sequence.

    Returns:
        ``(1, seq_local, heads, head_dim)``.
    """
    pieces = states[0].unflatten(0, (group.size, -1))  # (ranks, seq_local, heads, head_dim)
    return _all_to_all(pieces, group).transpose(0, 1).flatten(1, 2)[None]


def all_reduce_sum(tensor: Tensor, group: SequenceParallelGroup | None) -> Tensor:
    """Sum a tensor over the ranks of a group.

    The backward pass is the identity. Every rank computes the same function of the sum, and parameter gradients
    are summed over all ranks afterwards, where each summand counts once.

    Args:
        tensor: this rank's summand, of any shape.
        group: ranks that share the sequence; ``None`` returns the tensor unchanged.
    """
    if group is None:
        return tensor
    total: Tensor = _AllReduceSum.apply(tensor, group)
    return total


def check_sequence_parallel(config: "PretrainedConfig", problem: str, size: int) -> None:
    """Check that a model can be trained with sequence parallelism.

    Args:
        config: model config of transformers.
        problem: why a sample cannot be split over ranks; empty if it can.
        size: number of ranks in a group.

    Raises:
        ConfigError: samples cannot be split, or the attention heads are not a multiple of ``size``.
    """
    key = "strategy.sequence_parallel_size"
    if problem:
        raise ConfigError(
            key=key,
            got=size,
            expected=f"1, because the rows of this model cannot be split: {problem}",
            fix="leave the key out",
        )
    heads = config.get_text_config().num_attention_heads
    if heads % size:
        divisors = [number for number in range(1, heads + 1) if heads % number == 0]
        raise ConfigError(
            key=key,
            got=size,
            expected=f"a divisor of the model's {heads} attention heads: {', '.join(map(str, divisors))}",
        )


class _GroupContext(FunctionCtx):
    group: SequenceParallelGroup


class _AllToAll(Function):
    """Send piece ``i`` to rank ``i`` and receive one piece from each rank; gradients travel the same way back."""

    @staticmethod
    def forward(ctx: _GroupContext, pieces: Tensor, group: SequenceParallelGroup) -> Tensor:
        """Return the received pieces, ``(ranks, ...)`` like those sent."""
        ctx.group = group
        received = torch.empty_like(pieces, memory_format=torch.contiguous_format)
        distributed.all_to_all_single(received, pieces.contiguous(), group=group.process_group)
        return received

    @staticmethod
    def backward(ctx: _GroupContext, *gradients: Tensor) -> tuple[Tensor, None]:
        """Send the gradients back to the ranks of their pieces."""
        return _AllToAll.apply(gradients[0], ctx.group), None


class _AllReduceSum(Function):
    """Sum a tensor over the ranks; see :func:`all_reduce_sum`."""

    @staticmethod
    def forward(ctx: object, part: Tensor, group: SequenceParallelGroup) -> Tensor:
        """Return the sum, which every rank gets."""
        total = part.clone()
        distributed.all_reduce(total, group=group.process_group)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient unchanged."""
        return gradients[0], None


def _all_to_all(pieces: Tensor, group: SequenceParallelGroup) -> Tensor:
    received: Tensor = _AllToAll.apply(pieces, group)
    return received
