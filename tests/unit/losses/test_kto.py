"""KTO loss against values by hand."""

import math

import pytest
import torch

from xft.losses import kto


def test_kto_equals_values_by_hand() -> None:
    """beta 0.5, baseline ln 3. A log-ratio of 3 ln 3 is 2 ln 3 above it, scaled ln 3: the loss is 1 - 3/4 if desirable,
    1 - 1/4 if not. At the baseline it is 1/2."""
    ratios = torch.tensor([3 * math.log(3), 3 * math.log(3), math.log(3)])
    desirable = torch.tensor([True, False, True])
    got = kto(ratios, desirable, torch.tensor(math.log(3)), 0.5)
    assert got.tolist() == pytest.approx([1 / 4, 3 / 4, 1 / 2])


def test_kto_baseline_has_no_gradient() -> None:
    kl_baseline = torch.tensor(0.5, requires_grad=True)
    ratios = torch.tensor([0.1, 0.2], requires_grad=True)
    kto(ratios, torch.tensor([True, False]), kl_baseline, 0.5).sum().backward()
    assert kl_baseline.grad is None
    assert ratios.grad is not None
    assert float(ratios.grad[0]) < 0 < float(ratios.grad[1])


def test_kto_gradient_equals_finite_differences() -> None:
    ratios = torch.tensor([-2.0, 0.3, 1.5], dtype=torch.float64, requires_grad=True)
    desirable = torch.tensor([True, False, True])
    assert torch.autograd.gradcheck(lambda log_ratios: kto(log_ratios, desirable, 0.4, 0.7), (ratios,))
