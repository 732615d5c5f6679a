"""Cross-entropy of a linear head against its eager formula and finite differences."""

from typing import Any

import pytest
import torch
from helpers.eager_kernels import linear_cross_entropy_eager
from helpers.numbers_near import BF16, distance
from helpers.tolerances import tolerance
from helpers.watch import LargestTensor
from torch import Tensor

from xft.kernels import linear_cross_entropy

ROWS, IN = 37, 24
VOCABULARY = 50
HEAD_FP32 = tolerance(torch.float32, 3 * VOCABULARY)
"""Logits, softmax and the product with its gradient, of at most 50 terms each."""


def _problem(dtype: torch.dtype, bias: bool = False, trainable: bool = False) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(ROWS, IN, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, IN, generator=generator, dtype=torch.float64).to(dtype)
    offset = torch.randn(VOCABULARY, generator=generator, dtype=torch.float64).to(dtype) if bias else None
    if trainable:
        weight.requires_grad_()
    if trainable and offset is not None:
        offset.requires_grad_()
    targets = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    first = (states.detach().double() @ weight.detach().double().t()).argmax(dim=1)
    targets[::3] = first[::3]
    return states, targets, weight, offset


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("chunk_logits", [1, 7 * VOCABULARY, 10**6])
def test_linear_cross_entropy_gradient_equals_finite_differences(
    trainable: bool, chunk_logits: int
) -> None:
    states, targets, weight, bias = _problem(torch.float64, bias=True, trainable=trainable)

    def run(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_cross_entropy(states, targets, weight, bias, chunk_logits)[0] * 0.3

    assert torch.autograd.gradcheck(run, (states, weight, bias), fast_mode=True)


@pytest.mark.parametrize("chunk", [9, 16])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, HEAD_FP32), (torch.bfloat16, BF16)], ids=["fp32", "bf16"]
)
def test_linear_cross_entropy_equals_eager(
    dtype: torch.dtype, bound: float, trainable: bool, chunk: int
) -> None:
    """Chunks of 16 are padded with rows of zeros.

    fp32: another order of sums. bf16: both compute logits in bf16; the gradient of the weight is summed over chunks
    in fp32 and rounded once more than that of one product."""
    states, targets, weight, bias = _problem(dtype, trainable=trainable)
    leaves = [states, weight] if trainable else [states]
    results = []
    for compute, options in (
        (linear_cross_entropy, {"chunk_logits": chunk * VOCABULARY}),
        (linear_cross_entropy_eager, {}),
    ):
        loss, correct = compute(states, targets, weight, bias, **options)
        assert loss.dtype == torch.float32
        results.append((loss.detach(), int(correct), *torch.autograd.grad(loss / 7, leaves)))
    (loss, correct, *grads), (expected_loss, expected_correct, *expected) = results
    assert correct == expected_correct > 0
    assert float(loss) == pytest.approx(float(expected_loss), rel=HEAD_FP32)
    for got, want in zip(grads, expected, strict=True):
        assert got.dtype == want.dtype == dtype
        assert distance(got, want) < bound


def test_linear_cross_entropy_never_holds_all_logits() -> None:
    states, targets, weight, _ = _problem(torch.float32)
    with LargestTensor() as largest:
        loss, _ = linear_cross_entropy(states, targets, weight, chunk_logits=8 * VOCABULARY)
        loss.backward()
    assert 8 * VOCABULARY <= largest.numel < ROWS * VOCABULARY


@pytest.mark.parametrize("grad", [True, False])
def test_linear_cross_entropy_without_targets_is_zero_with_zero_gradient(grad: bool) -> None:
    states, targets, weight, _ = _problem(torch.bfloat16)
    with torch.set_grad_enabled(grad):
        loss, correct = linear_cross_entropy(states[:0], targets[:0], weight)
    assert float(loss) == 0
    assert int(correct) == 0
    if grad:
        loss.backward()
        assert torch.equal(states.grad, torch.zeros_like(states))


def test_linear_cross_entropy_with_missing_target_raises_value_error() -> None:
    states, targets, weight, _ = _problem(torch.float32)
    with pytest.raises(ValueError, match="states"):
        linear_cross_entropy(states, targets[:-1], weight)
