"""LoRA linear layer against its eager formula and finite differences."""

from typing import Any

import pytest
import torch
from helpers.eager_kernels import lora_linear_eager
from helpers.numbers_near import BF16, distance
from helpers.tolerances import tolerance
from torch import Tensor

from xft.kernels import lora_linear

ROWS, IN, OUT, RANK = 37, 24, 40, 4


def _lora(dtype: torch.dtype, adapter: torch.dtype, bias: bool = True) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    weight = draw(OUT, IN).to(dtype)
    return {
        "x": draw(1, ROWS, IN).to(dtype).requires_grad_(),
        "weight": lambda: weight,
        "bias": draw(OUT).to(dtype) if bias else None,
        "lora_a": (draw(RANK, IN) / 5).to(adapter).requires_grad_(),
        "lora_b": (draw(OUT, RANK) / 5).to(adapter).requires_grad_(),
        "scaling": 2.0,
    }


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dropped", [True, False])
def test_lora_linear_gradient_equals_finite_differences(bias: bool, dropped: bool) -> None:
    arguments = _lora(torch.float64, torch.float64, bias)
    mask = (torch.rand(1, ROWS, IN, generator=torch.Generator().manual_seed(1)) > 0.3).double() / 0.7

    def run(x: Tensor, lora_a: Tensor, lora_b: Tensor) -> Tensor:
        after = x * mask if dropped else None
        return lora_linear(x, arguments["weight"], arguments["bias"], lora_a, lora_b, 2.0, after)

    inputs = (arguments["x"], arguments["lora_a"], arguments["lora_b"])
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, tolerance(torch.float32, 2 * max(IN, OUT, ROWS))), (torch.bfloat16, BF16)],
    ids=["fp32", "bf16"],
)
def test_lora_linear_equals_eager(dtype: torch.dtype, bound: float) -> None:
    """fp32: another order of sums. bf16: the low-rank product and the update are rounded to bf16 once each, while
    the eager layer has fp32; the bound is the rounding error of the result."""
    arguments = _lora(dtype, torch.float32)
    upstream = torch.randn(1, ROWS, OUT, generator=torch.Generator().manual_seed(2)).to(dtype)
    leaves = [arguments["x"], arguments["lora_a"], arguments["lora_b"]]
    results = []
    for compute in (lora_linear, lora_linear_eager):
        result = compute(**arguments)
        assert result.dtype == dtype
        results.append([result, *torch.autograd.grad(result, leaves, upstream)])
    for got, expected in zip(*results, strict=True):
        assert got.dtype == expected.dtype
        assert distance(got, expected) < bound


def test_lora_linear_saves_input_and_r_numbers_per_token() -> None:
    arguments = _lora(torch.bfloat16, torch.float32)
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        lora_linear(**arguments)
    sizes = sorted(tensor.numel() for tensor in saved)
    assert sizes == sorted([RANK * IN, OUT * RANK, ROWS * RANK, ROWS * IN])
    assert {tensor.dtype for tensor in saved} == {torch.bfloat16}


def test_lora_linear_for_input_without_gradient_calls_weight_once() -> None:
    arguments = _lora(torch.float32, torch.float32)
    arguments["x"] = arguments["x"].detach()
    calls = []
    weight = arguments["weight"]()
    arguments["weight"] = lambda: calls.append(1) or weight
    lora_linear(**arguments).sum().backward()
    assert len(calls) == 1
    assert arguments["lora_a"].grad is not None


def test_output_may_be_changed_in_place() -> None:
    a, b = torch.randn(2, 4, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    weight = torch.randn(3, 4)
    for shape in ((5, 4), (1, 5, 4)):
        out = lora_linear(torch.randn(shape), lambda: weight, None, a, b, 1.0)
        out.add_(1).sum().backward()
        assert a.grad is not None
