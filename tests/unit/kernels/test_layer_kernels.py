"""The kernels of norms, gates and packed rows against their references and finite differences."""

import pytest
import torch
from helpers.numbers_near import BF16, distance, draw
from helpers.tolerances import tolerance
from torch import Tensor

from xft.kernels import rms_norm, rms_norm_eager, silu_mul, silu_mul_eager, swiglu


@pytest.mark.parametrize("trained", [True, False])
def test_gradient_of_the_norm_is_that_of_finite_differences(trained: bool) -> None:
    x, weight = draw(2, 5, 12).requires_grad_(), draw(12, seed=1).requires_grad_(trained)
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, 0.1), (x, weight))


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, tolerance(torch.float32, 2 * 64)), (torch.bfloat16, BF16)],
    ids=["fp32", "bf16"],
)
def test_the_norm_is_the_reference(dtype: torch.dtype, bound: float, trained: bool) -> None:
    """Forward the same bits. Backward in fp32 another order of sums; in bf16 both round the gradient of the
    normalised input and that of the input, once each."""
    x, upstream = (3 * draw(1, 40, 64)).to(dtype), draw(1, 40, 64, seed=2).to(dtype)
    weight = draw(64, seed=1).to(dtype).requires_grad_(trained)
    leaves = [x.requires_grad_(), weight] if trained else [x.requires_grad_()]
    found, expected = rms_norm(x, weight, 1e-5), rms_norm_eager(x, weight, 1e-5)
    assert torch.equal(found, expected)
    assert found.dtype == dtype
    pairs = zip(*(torch.autograd.grad(each, leaves, upstream) for each in (found, expected)), strict=True)
    for one, two in pairs:
        assert one.dtype == dtype
        assert distance(one, two) < bound


def test_the_norm_keeps_its_input_and_a_number_for_each_token() -> None:
    kept: list[Tensor] = []
    x, weight = draw(1, 40, 64).bfloat16().requires_grad_(), draw(64).bfloat16()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda each: kept.append(each) or each, lambda each: each
    ):
        rms_norm(x, weight, 1e-5)
    assert sorted((each.numel(), each.dtype) for each in kept if each is not weight)[:1] == [
        (40, torch.float32)
    ]
    assert sum(each.nbytes for each in kept) == 40 * 64 * 2 + 40 * 4 + 64 * 2


@pytest.mark.parametrize("rows", [3, 100])
def test_gradient_of_the_gate_is_that_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setitem(swiglu.ROWS, "cpu", rows)
    inputs = (draw(1, 7, 5).requires_grad_(), draw(1, 7, 5, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(silu_mul, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_the_gate_is_the_reference_bit_for_bit(dtype: torch.dtype) -> None:
    one, two, upstream = (draw(1, 300, 32, seed=each).to(dtype) for each in range(3))
    inputs = [one.requires_grad_(), two.requires_grad_()]
    found, expected = silu_mul(*inputs), silu_mul_eager(*inputs)
    assert torch.equal(found, expected)
    results = zip(*(torch.autograd.grad(each, inputs, upstream) for each in (found, expected)), strict=True)
    assert all(torch.equal(got, wanted) for got, wanted in results)
