"""Gating of SwiGLU against its eager formula and finite differences."""

import pytest
import torch
from helpers.numbers_near import draw

from xft.kernels import silu_mul, silu_mul_eager, swiglu


@pytest.mark.parametrize("rows", [3, 100])
def test_silu_mul_gradient_equals_finite_differences(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setitem(swiglu.CHUNK_ROWS, "cpu", rows)
    inputs = (draw(1, 7, 5).requires_grad_(), draw(1, 7, 5, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(silu_mul, inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_silu_mul_is_bitwise_equal_to_eager(dtype: torch.dtype) -> None:
    gate, up, upstream = (draw(1, 300, 32, seed=seed).to(dtype) for seed in range(3))
    inputs = [gate.requires_grad_(), up.requires_grad_()]
    got, expected = silu_mul(*inputs), silu_mul_eager(*inputs)
    assert torch.equal(got, expected)
    grads, expected_grads = (torch.autograd.grad(output, inputs, upstream) for output in (got, expected))
    assert all(map(torch.equal, grads, expected_grads))
