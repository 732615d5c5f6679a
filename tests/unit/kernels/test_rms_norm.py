"""RMSNorm against its eager formula and finite differences."""

import pytest
import torch
from helpers.numbers_near import BF16, distance, draw
from helpers.tolerances import tolerance
from torch import Tensor

from xft.kernels import rms_norm, rms_norm_eager


@pytest.mark.parametrize("trainable", [True, False])
def test_rms_norm_gradient_equals_finite_differences(trainable: bool) -> None:
    x, weight = draw(2, 5, 12).requires_grad_(), draw(12, seed=1).requires_grad_(trainable)
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, 0.1), (x, weight))


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, tolerance(torch.float32, 2 * 64)), (torch.bfloat16, BF16)],
    ids=["fp32", "bf16"],
)
def test_rms_norm_is_bitwise_equal_to_eager_with_close_gradient(
    dtype: torch.dtype, bound: float, trainable: bool
) -> None:
    """Backward in fp32: another order of sums. bf16: both round the gradient of the normalized input and that of the
    input once each."""
    x, upstream = (3 * draw(1, 40, 64)).to(dtype), draw(1, 40, 64, seed=2).to(dtype)
    weight = draw(64, seed=1).to(dtype).requires_grad_(trainable)
    leaves = [x.requires_grad_(), weight] if trainable else [x.requires_grad_()]
    got, expected = rms_norm(x, weight, 1e-5), rms_norm_eager(x, weight, 1e-5)
    assert torch.equal(got, expected)
    assert got.dtype == dtype
    pairs = zip(*(torch.autograd.grad(output, leaves, upstream) for output in (got, expected)), strict=True)
    for grad, expected_grad in pairs:
        assert grad.dtype == dtype
        assert distance(grad, expected_grad) < bound


def test_rms_norm_saves_input_and_one_number_per_token() -> None:
    saved: list[Tensor] = []
    x, weight = draw(1, 40, 64).bfloat16().requires_grad_(), draw(64).bfloat16()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor
    ):
        rms_norm(x, weight, 1e-5)
    assert sorted((tensor.numel(), tensor.dtype) for tensor in saved if tensor is not weight)[:1] == [
        (40, torch.float32)
    ]
    assert sum(tensor.nbytes for tensor in saved) == 40 * 64 * 2 + 40 * 4 + 64 * 2
