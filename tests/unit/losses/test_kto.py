"""The loss of single answers: values worked out by hand."""

import math

import pytest
import torch

from xft.losses import kto


def test_values_by_hand() -> None:
    """beta 0.5, base ln 3. A log-ratio of 3 ln 3 is 2 ln 3 above, scaled ln 3: wanted it costs
    1 - 3/4, unwanted 1 - 1/4. At the base either costs 1/2."""
    ratios = torch.tensor([3 * math.log(3), 3 * math.log(3), math.log(3)])
    desirable = torch.tensor([True, False, True])
    got = kto(ratios, desirable, torch.tensor(math.log(3)), 0.5)
    assert got.tolist() == pytest.approx([1 / 4, 3 / 4, 1 / 2])


def test_the_base_has_no_gradient() -> None:
    base = torch.tensor(0.5, requires_grad=True)
    ratios = torch.tensor([0.1, 0.2], requires_grad=True)
    kto(ratios, torch.tensor([True, False]), base, 0.5).sum().backward()
    assert base.grad is None
    assert ratios.grad is not None
    assert float(ratios.grad[0]) < 0 < float(ratios.grad[1])


def test_gradients_are_those_of_finite_differences() -> None:
    ratios = torch.tensor([-2.0, 0.3, 1.5], dtype=torch.float64, requires_grad=True)
    desirable = torch.tensor([True, False, True])
    assert torch.autograd.gradcheck(lambda each: kto(each, desirable, 0.4, 0.7), (ratios,))
