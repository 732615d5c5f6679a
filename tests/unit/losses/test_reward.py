"""Losses of reward models against values by hand."""

import math

import pytest
import torch

from xft.losses import bradley_terry, focal, l2_penalty, log_barrier

LN3 = math.log(3)


def test_bradley_terry_equals_values_by_hand() -> None:
    """sigma(ln 3) = 3/4; with a margin of 2 ln 3 it is sigma(-ln 3) = 1/4."""
    chosen, rejected = torch.tensor([2 * LN3]), torch.tensor([LN3])
    assert float(bradley_terry(chosen, rejected)) == pytest.approx(-math.log(3 / 4), rel=1e-5)
    assert float(bradley_terry(chosen, rejected, 2 * LN3)) == pytest.approx(-math.log(1 / 4), rel=1e-5)


def test_focal_equals_values_by_hand() -> None:
    """P = 3/4: the weight is (1 - 2 · 1/4)^2 = 1/4. An incorrectly ranked pair has weight 1."""
    chosen, rejected = torch.tensor([LN3, 0.0]), torch.tensor([0.0, LN3])
    expected = [-math.log(3 / 4) / 4, -math.log(1 / 4)]
    assert focal(chosen, rejected).tolist() == pytest.approx(expected, rel=1e-5)


def test_focal_with_gamma_zero_is_bradley_terry() -> None:
    torch.manual_seed(0)
    chosen, rejected = torch.randn(2, 6)
    torch.testing.assert_close(focal(chosen, rejected, gamma=0.0), bradley_terry(chosen, rejected))


def test_log_barrier_equals_values_by_hand() -> None:
    """-ln 5 - ln 5 in the middle; at 4 it is -ln 9 - ln 1."""
    got = log_barrier(torch.tensor([0.0, 4.0], dtype=torch.float64))
    assert got.tolist() == pytest.approx([-2 * math.log(5), -math.log(9)])


def test_log_barrier_beyond_a_bound_is_linear() -> None:
    """At 7, 2 beyond the bound: -ln 12 - ln 0.001 + (0.001 + 2) / 0.001; the slope is 1/0.001 - 1/12."""
    score = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    penalty = log_barrier(score)
    penalty.backward()
    assert float(penalty.detach()) == pytest.approx(-math.log(12) - math.log(0.001) + 2001)
    assert score.grad is not None
    assert float(score.grad) == pytest.approx(1000 - 1 / 12)


def test_l2_penalty_is_the_square() -> None:
    assert l2_penalty(torch.tensor([-3.0, 0.5])).tolist() == [9.0, 0.25]


@pytest.mark.parametrize("name", ["bradley_terry", "focal"])
def test_reward_loss_gradient_is_antisymmetric(name: str) -> None:
    loss = {"bradley_terry": bradley_terry, "focal": focal}[name]
    scores = torch.tensor([0.7, -0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda scores: loss(scores[:1], scores[1:]), (scores,))
    (gradient,) = torch.autograd.grad(loss(scores[:1], scores[1:]).sum(), scores)
    assert float(gradient[0]) < 0 < float(gradient[1])
    assert float(gradient.sum()) == pytest.approx(0.0, abs=1e-12)


def test_log_barrier_gradient_equals_finite_differences() -> None:
    scores = torch.tensor([-5.5, -4.0, 0.0, 4.9, 6.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_barrier, (scores,))
