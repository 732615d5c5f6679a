"""Which optimizers may step a part of each parameter."""

from collections.abc import Callable
from functools import partial
from typing import Any

import bitsandbytes
import pytest
import torch
from torch import Tensor

from xft.optim import adamw, elementwise_problem, muon, schedule_free_adamw


class Directed(torch.optim.Optimizer):
    """An optimizer whose update ``direction`` maps the gradient and the parameter to."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                momentum = self.state[param].setdefault("momentum", torch.zeros_like(param))
                momentum.mul_(0.9).add_(param.grad)
                param.sub_(group["lr"] * self.direction(momentum, param))

    def direction(self, momentum: Tensor, param: Tensor) -> Tensor:
        raise NotImplementedError


class Lion(Directed):
    def direction(self, momentum: Tensor, param: Tensor) -> Tensor:
        return momentum.sign()


class Lamb(Directed):
    def direction(self, momentum: Tensor, param: Tensor) -> Tensor:
        return momentum * (param.norm() / momentum.norm())


class Shampoo(Directed):
    def direction(self, momentum: Tensor, param: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(momentum @ momentum.T + torch.eye(len(momentum)))
        root: Tensor = vectors @ (values**-0.25).diag() @ vectors.T
        return root @ momentum


class Soap(Directed):
    """The sign of the momentum in the eigenbasis of its rows."""

    def direction(self, momentum: Tensor, param: Tensor) -> Tensor:
        basis = torch.linalg.eigh(momentum @ momentum.T).eigenvectors
        return basis @ (basis.T @ momentum).sign()


class RowScaled(Directed):
    """One step size for each row, which is state."""

    def direction(self, momentum: Tensor, param: Tensor) -> Tensor:
        return momentum / self.state[param].setdefault("rows", momentum.abs().mean(dim=-1, keepdim=True))


class FixedShape(Directed):
    def direction(self, momentum: Tensor, param: Tensor) -> Tensor:
        return momentum.view(66, 130)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "create",
    [
        adamw,
        partial(adamw, lr=1e-6, weight_decay=0.1),
        partial(torch.optim.SGD, momentum=0.9),
        torch.optim.RMSprop,
        bitsandbytes.optim.AdamW,
        Lion,
        schedule_free_adamw,
    ],
)
def test_optimizers_that_work_element_by_element_have_no_problem(
    create: Callable[..., Any], flat: bool
) -> None:
    if create is schedule_free_adamw:
        pytest.importorskip("schedulefree")
    before = torch.get_rng_state()
    assert elementwise_problem(create, flat) == ""
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("create", "problem"),
    [
        (muon, "Muon does not work element by element"),
        (Lamb, "Lamb does not work element by element"),
        (Shampoo, "Shampoo does not work element by element"),
        (Soap, "Soap does not work element by element"),
        (torch.optim.Adafactor, "the state of Adafactor"),
        (
            RowScaled,
            "the state of RowScaled does not have the shape of the parameters, but such as (66, 1)",
        ),
        (bitsandbytes.optim.AdamW8bit, "the state of AdamW8bit"),
        (bitsandbytes.optim.Lion8bit, "the state of Lion8bit"),
    ],
)
def test_optimizers_that_need_more_than_an_element_have_a_problem(
    create: Callable[..., Any], problem: str
) -> None:
    result = elementwise_problem(create)
    assert result.startswith(problem)
    assert "\n" not in result


def test_optimizer_that_fails_on_a_part_has_a_problem() -> None:
    assert elementwise_problem(FixedShape).startswith("FixedShape fails")
