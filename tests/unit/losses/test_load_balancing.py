"""The auxiliary loss against transformers, and against itself on parts of a batch."""

from functools import partial

import pytest
import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from xft.losses import expert_counts, load_balancing_loss


def _logits(layers: int = 3, tokens: int = 11, experts: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(tokens, experts, generator=generator, requires_grad=True) for _ in range(layers)]


@pytest.mark.parametrize("masked", [False, True])
def test_loss_and_gradient_are_those_of_transformers(masked: bool) -> None:
    mask = torch.tensor([1.0] * 7 + [0.0] * 4) if masked else None
    ours, theirs = _logits(), _logits()
    loss = load_balancing_loss(ours, 2, mask)
    expected = load_balancing_loss_func(tuple(theirs), 5, 2, None if mask is None else mask[None])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_balanced_load_gives_top_k() -> None:
    logits = torch.eye(4) * 30 + torch.eye(4).roll(1, 1) * 30  # each expert is chosen by two of four tokens
    assert float(load_balancing_loss([logits], 2)) == pytest.approx(2.0)
    assert expert_counts(logits.topk(2).indices, 4).tolist() == [2, 2, 2, 2]


def test_loss_on_two_ranks_is_that_of_the_whole_sequence() -> None:
    whole, halves = _logits(), [[layer[:5] for layer in _logits()], [layer[5:] for layer in _logits()]]
    parts: list[torch.Tensor] = []

    def keep(part: torch.Tensor) -> torch.Tensor:
        parts.append(part.detach())
        return part

    for half in halves:
        load_balancing_loss(half, 2, None, keep)
    losses = [
        load_balancing_loss(half, 2, None, partial(torch.add, other))
        for half, other in zip(halves, reversed(parts), strict=True)
    ]
    expected = load_balancing_loss(whole, 2)
    torch.testing.assert_close(losses[0], expected)
    torch.testing.assert_close(losses[1], expected)


def test_counts_leave_out_padding() -> None:
    selected = torch.tensor([[0, 1], [0, 2], [0, 3]])
    assert expert_counts(selected, 5, torch.tensor([1.0, 1.0, 0.0])).tolist() == [2, 1, 1, 0, 0]
