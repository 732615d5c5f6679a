"""Pair losses against values by hand and finite differences.

With beta = 0.5 and log-ratios of 2 ln 3 (chosen) and 0 (rejected), the scaled margin is ln 3; sigma(ln 3) = 3/4 and
sigma(-ln 3) = 1/4.
"""

import math

import pytest
import torch
from torch import Tensor

from xft.losses import PAIR_LOSSES

BETA = 0.5
CHOSEN = 2 * math.log(3)


def value(name: str, chosen: float, rejected: float, beta: float = BETA, smoothing: float = 0.0) -> float:
    chosen_ratio = torch.tensor([chosen], dtype=torch.float64)
    rejected_ratio = torch.tensor([rejected], dtype=torch.float64)
    return float(PAIR_LOSSES[name](chosen_ratio, rejected_ratio, beta, smoothing))


def test_sigmoid_is_the_logistic_loss_of_the_margin() -> None:
    assert value("sigmoid", CHOSEN, 0.0) == pytest.approx(-math.log(3 / 4))
    assert value("sigmoid", 0.0, CHOSEN) == pytest.approx(-math.log(1 / 4))
    assert value("sigmoid", 1.5, 1.5) == pytest.approx(math.log(2))


def test_sigmoid_with_label_smoothing_mixes_both_orders() -> None:
    """0.9 ln(4/3) + 0.1 ln 4."""
    expected = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert value("sigmoid", CHOSEN, 0.0, smoothing=0.1) == pytest.approx(expected)


def test_robust_is_unbiased_under_flipped_labels() -> None:
    """(0.9 ln(4/3) - 0.1 ln 4) / 0.8. Over labels of which 0.1 are flipped, its mean is the loss
    without noise: 0.9 robust(c, r) + 0.1 robust(r, c) = sigmoid(c, r)."""
    kept = value("robust", CHOSEN, 0.0, smoothing=0.1)
    flipped = value("robust", 0.0, CHOSEN, smoothing=0.1)
    assert kept == pytest.approx((0.9 * math.log(4 / 3) - 0.1 * math.log(4)) / 0.8)
    assert 0.9 * kept + 0.1 * flipped == pytest.approx(math.log(4 / 3))


def test_hinge_is_zero_from_a_margin_of_one_over_beta() -> None:
    assert value("hinge", 1.0, 0.0) == pytest.approx(0.5)
    assert value("hinge", 2.0, 0.0) == 0.0
    assert value("hinge", 0.0, 3.0) == pytest.approx(2.5)


def test_ipo_is_zero_at_a_margin_of_half_over_beta() -> None:
    assert value("ipo", 1.25, 0.25) == 0.0
    assert value("ipo", 0.0, 2.0) == pytest.approx(9.0)


def test_sppo_hard_equals_value_by_hand() -> None:
    """Half over beta is 1: (3 - 1)^2 + (0.5 + 1)^2."""
    assert value("sppo_hard", 3.0, 0.5) == pytest.approx(4 + 2.25)


def test_nca_pair_equals_value_by_hand() -> None:
    """-ln(3/4) - ln(1/4)/2 - ln(1/2)/2."""
    expected = math.log(4 / 3) + math.log(4) / 2 + math.log(2) / 2
    assert value("nca_pair", CHOSEN, 0.0) == pytest.approx(expected)


def test_kto_pair_compares_each_side_with_baseline_of_the_other() -> None:
    """Means of the batch: chosen (2 ln 3 + 0) / 2 = ln 3, rejected (-4 + 2) / 2 < 0, so zero.

    First pair: [1 - sigma(ln 3)] + [1 - sigma((ln 3 + 4) / 2)]; second: [1 - 1/2] +
    [1 - sigma((ln 3 - 2) / 2)]."""
    chosen = torch.tensor([CHOSEN, 0.0], dtype=torch.float64)
    rejected = torch.tensor([-4.0, 2.0], dtype=torch.float64)

    def sigma(number: float) -> float:
        return 1 / (1 + math.exp(-number))

    expected = [
        (1 / 4 + 1 - sigma((math.log(3) + 4) / 2)) / 2,
        (1 / 2 + 1 - sigma((math.log(3) - 2) / 2)) / 2,
    ]
    assert PAIR_LOSSES["kto_pair"](chosen, rejected, BETA, 0.0).tolist() == pytest.approx(expected)


def test_kto_pair_baseline_has_no_gradient() -> None:
    """A single pair with c = r = 2 and beta = 0.5: both terms are 1 - sigma(0), whose slopes are
    -beta/4 and beta/4; with a gradient of the baseline they would be zero."""
    chosen = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    PAIR_LOSSES["kto_pair"](chosen, rejected, BETA, 0.0).sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert float(chosen.grad) == pytest.approx(-0.5 / 4 / 2)
    assert float(rejected.grad) == pytest.approx(0.5 / 4 / 2)


@pytest.mark.parametrize("name", [name for name in PAIR_LOSSES if name != "kto_pair"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_pair_loss_gradient_equals_finite_differences(name: str, smoothing: float) -> None:
    torch.manual_seed(0)
    chosen, rejected = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def loss(first: Tensor, second: Tensor) -> Tensor:
        return PAIR_LOSSES[name](first, second, 0.7, smoothing)

    assert torch.autograd.gradcheck(loss, (chosen, rejected))


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_pair_loss_decreases_with_chosen_and_increases_with_rejected(name: str) -> None:
    """At c = r = 0, where it holds for all losses; IPO and the like have a minimum farther away."""
    chosen = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    rejected = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    PAIR_LOSSES[name](chosen, rejected, 0.3, 0.0).sum().backward()
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert float(chosen.grad) < 0 < float(rejected.grad)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_pair_loss_without_pairs_is_zero(name: str) -> None:
    none = torch.zeros(0, requires_grad=True)
    loss = PAIR_LOSSES[name](none, none, 0.1, 0.0).sum()
    loss.backward()
    assert float(loss.detach()) == 0.0


@pytest.mark.parametrize("name", ["sigmoid", "robust", "kto_pair", "nca_pair"])
def test_pair_loss_of_extreme_ratios_has_finite_loss_and_gradient(name: str) -> None:
    chosen = torch.tensor([-1e4, 1e4], requires_grad=True)
    rejected = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = PAIR_LOSSES[name](chosen, rejected, 0.1, 0.0)
    loss.sum().backward()
    assert chosen.grad is not None
    assert bool(torch.isfinite(loss).all() and torch.isfinite(chosen.grad).all())
