"""Odds ratio of ORPO against values by hand."""

import math

import pytest
import torch
from helpers.tolerances import tolerance

from xft.losses import log_odds, odds_ratio


@pytest.mark.parametrize("p", [1e-30, 0.01, 0.25, 0.5, 0.75, 0.999])
def test_log_odds_equal_log_of_p_over_one_minus_p(p: float) -> None:
    got = log_odds(torch.tensor(math.log(p), dtype=torch.float64))
    assert float(got) == pytest.approx(math.log(p / (1 - p)), rel=1e-9, abs=1e-12)


def test_log_odds_in_fp32_are_accurate_near_zero_and_one() -> None:
    """For p = exp(-x) the odds are 1 / (exp(x) - 1)."""
    bound = tolerance(torch.float32, 3)  # an exponential, a logarithm and a difference
    for x in (2e-6, 1e-3, 0.6, 0.7, 5.0, 80.0):
        got = float(log_odds(torch.tensor(-x)))
        assert got == pytest.approx(-math.log(math.expm1(float(torch.tensor(x)))), rel=bound, abs=bound)


def test_odds_ratio_equals_value_by_hand() -> None:
    """p of 3/4 has odds 3, p of 1/2 has odds 1: sigma(ln 3) = 3/4."""
    chosen, rejected = torch.tensor([math.log(0.75)]), torch.tensor([math.log(0.5)])
    assert float(odds_ratio(chosen, rejected, 0.1)) == pytest.approx(-0.1 * math.log(0.75), rel=1e-5)
    assert float(odds_ratio(rejected, chosen, 0.1)) == pytest.approx(-0.1 * math.log(0.25), rel=1e-5)


def test_odds_ratio_gradient_equals_finite_differences() -> None:
    chosen = torch.tensor([-0.05, -0.6, -0.75, -4.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([-3.0, -0.7, -0.01, -4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, r: odds_ratio(c, r, 0.3), (chosen, rejected))


def test_odds_ratio_of_extreme_probabilities_has_finite_loss_and_gradient() -> None:
    chosen = torch.tensor([0.0, -200.0, 0.0], requires_grad=True)
    rejected = torch.tensor([-200.0, 0.0, 0.0], requires_grad=True)
    loss = odds_ratio(chosen, rejected, 0.1)
    loss.sum().backward()
    for tensor in (loss, chosen.grad, rejected.grad):
        assert tensor is not None
        assert bool(torch.isfinite(tensor).all())
