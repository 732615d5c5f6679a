"""DeepSpeed-Ulysses (Jacobs et al. 2023, https://arxiv.org/abs/2309.14509).

Every layer but attention treats each token by itself, so each rank of a group computes a share of the
tokens. In attention tokens meet: an all-to-all before it gives each rank all tokens of a share of
the heads, and one behind it gives each rank back all heads of its tokens.

A batch is shared out in one piece: samples may lie across the cuts, and attention sees each of them
whole. Where the tokens cannot be shared out evenly, a few are added behind, as a segment of their own.
"""

from math import gcd
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function
from torch.nn.functional import pad

from xft.errors import ConfigError
from xft.types import SequenceGroup


def whole_length(length: int, group: SequenceGroup) -> int:
    """Tokens of a batch when they can be shared out evenly."""
    return -(-length // group.size) * group.size


def share_out(tensor: Tensor, group: SequenceGroup, fill: float = 0) -> Tensor:
    """This rank's tokens.

    Args:
        tensor: ``(1, seq)``, the same on every rank of the group.
        group: whose ranks share.
        fill: of the tokens that are added behind.

    Returns:
        ``(1, share)``; the shares of all ranks, one behind the other, are ``whole_length`` tokens.
    """
    length = tensor.shape[1]
    whole = pad(tensor, (0, whole_length(length, group) - length), value=fill)
    return whole.tensor_split(group.size, dim=1)[group.rank]


def to_heads(states: Tensor, group: SequenceGroup) -> Tensor:
    """From all heads of this rank's tokens to all tokens of its heads.

    Args:
        states: ``(1, heads, share, head_dim)``. Heads that are fewer than ranks, or that ranks cannot
            share evenly, are repeated as often as it takes (key and value heads, which groups of query
            heads have in common).
        group: whose ranks share.

    Returns:
        ``(1, heads / ranks, share * ranks, head_dim)``.
    """
    heads = states.shape[1]
    states = states.repeat_interleave(group.size // gcd(heads, group.size), dim=1)
    sent = states[0].unflatten(0, (group.size, -1))  # (ranks, heads, share, head_dim)
    return _exchange(sent, group).transpose(0, 1).flatten(1, 2)[None]


def to_tokens(states: Tensor, group: SequenceGroup) -> Tensor:
    """From all tokens of this rank's heads to all heads of its tokens.

    Args:
        states: ``(1, share * ranks, heads / ranks, head_dim)``, as attention gives it.
        group: whose ranks share.

    Returns:
        ``(1, share, heads, head_dim)``.
    """
    sent = states[0].unflatten(0, (group.size, -1))  # (ranks, share, heads, head_dim)
    return _exchange(sent, group).transpose(0, 1).flatten(1, 2)[None]


def add_up(tensor: Tensor, group: SequenceGroup | None) -> Tensor:
    """The sum over the ranks of a group, of which each has a part.

    What is made of the sum is the same on every rank, and a gradient with respect to it is handed on as
    it is, to this rank's part alone: gradients of weights are added up over all ranks afterwards, where
    each part counts once.

    Args:
        tensor: of any shape.
        group: whose ranks have the parts; ``None`` gives the tensor back.
    """
    if group is None:
        return tensor
    total: Tensor = _AddUp.apply(tensor, group)
    return total


def check_sequence_parallel(config: Any, packs: bool, size: int) -> None:
    """See that a model's tokens can be shared out.

    Args:
        config: of the model, as transformers has it.
        packs: whether its attention keeps samples apart that stand one behind the other.
        size: ranks in a group.

    Raises:
        ConfigError: they cannot.
    """
    if not packs:
        raise ConfigError(
            "strategy.sequence_parallel_size: the model needs its samples padded, each in a row of its own, and only "
            "samples that stand one behind the other can be shared out; leave the key out"
        )
    heads = config.get_text_config().num_attention_heads
    if heads % size:
        fitting = [each for each in range(1, heads + 1) if heads % each == 0]
        raise ConfigError(
            f"strategy.sequence_parallel_size: got {size}, and the model has {heads} attention heads, which must be "
            f"shared evenly; take one of {', '.join(map(str, fitting))}"
        )


class _Exchange(Function):
    """Give each rank its piece, and take one from each; the same with gradients, the other way."""

    @staticmethod
    def forward(ctx: Any, pieces: Tensor, group: SequenceGroup) -> Tensor:
        ctx.group = group
        received = torch.empty_like(pieces, memory_format=torch.contiguous_format)
        distributed.all_to_all_single(received, pieces.contiguous(), group=group.handle)
        return received

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _Exchange.apply(gradients[0], ctx.group), None


class _AddUp(Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, group: SequenceGroup) -> Tensor:
        total = part.clone()
        distributed.all_reduce(total, group=group.handle)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _exchange(pieces: Tensor, group: SequenceGroup) -> Tensor:
    received: Tensor = _Exchange.apply(pieces, group)
    return received
