"""Optimizers by name against those of the libraries that they are from."""

from typing import Any

import pytest
import torch

from xft.engine.optimizers import adamw, muon, parameter_groups
from xft.errors import ConfigError


def _model() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 4))


def _train(model: Any, optimizer: torch.optim.Optimizer, steps: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        model(torch.randn(8, 6, generator=generator)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [each.detach().clone() for each in model.parameters()]


def test_adamw_is_that_of_torch_and_decays_matrices_alone() -> None:
    """One pass over all weights against torch's own loop over them, each with its decay."""
    ours, theirs = _model(), _model()
    got = _train(ours, adamw(parameter_groups(ours), lr=1e-2, weight_decay=0.3))
    matrices = [each for each in theirs.parameters() if each.ndim == 2]
    vectors = [each for each in theirs.parameters() if each.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.3}, {"params": vectors, "weight_decay": 0.0}]
    expected = _train(theirs, torch.optim.AdamW(groups, lr=1e-2, foreach=False, fused=False))
    for one, two in zip(got, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


def test_muon_takes_orthogonal_steps_as_long_as_those_of_adamw() -> None:
    """The first step from zero momentum: all singular values nearly alike, each entry 0.2 of the rate (RMS)."""
    weight = torch.nn.Parameter(torch.zeros(16, 16))
    optimizer = muon([{"params": [weight]}], lr=1e-2)
    weight.grad = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    values = torch.linalg.svdvals(weight.detach())
    assert values.max() < 2 * values.min()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.2 * 1e-2, rel=0.2)


def test_muon_refuses_vectors() -> None:
    with pytest.raises(ConfigError, match="muon is for matrices"):
        muon(parameter_groups(_model()))
