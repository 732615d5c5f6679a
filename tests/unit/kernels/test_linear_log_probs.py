"""Log-probabilities after a linear head against their eager formula and finite differences."""

import pytest
import torch
from helpers.eager_kernels import linear_log_probs_eager
from helpers.tolerances import tolerance
from helpers.watch import LargestTensor
from torch import Tensor

from xft.kernels import linear_log_probs
from xft.kernels import logit_chunks as chunks

TOKENS, HIDDEN, VOCABULARY = 23, 16, 50
HEAD_FP32 = tolerance(torch.float32, 3 * VOCABULARY)
"""Logits, softmax and the product with its gradient, of at most 50 terms each."""


def _problem(dtype: torch.dtype, trainable: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    states, weight, bias = draw(TOKENS, HIDDEN), draw(VOCABULARY, HIDDEN), draw(VOCABULARY)
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    weight.requires_grad_(trainable)
    bias.requires_grad_(trainable)
    return states.requires_grad_(), targets, weight, bias


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("chunk_logits", [1, 7 * VOCABULARY, 10**6])
def test_linear_log_probs_gradient_equals_finite_differences(
    monkeypatch: pytest.MonkeyPatch, trainable: bool, chunk_logits: int
) -> None:
    """Tokens have different upstream gradients; rows are converted three at a time."""
    monkeypatch.setitem(chunks.FP32_CHUNK_LOGITS, "cpu", 3 * VOCABULARY)
    states, targets, weight, bias = _problem(torch.float64, trainable)

    def run(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_log_probs(states, targets, weight, bias, chunk_logits)

    assert torch.autograd.gradcheck(run, (states, weight, bias), fast_mode=True)
    torch.testing.assert_close(
        run(states, weight, bias), linear_log_probs_eager(states, targets, weight, bias)
    )


@pytest.mark.parametrize("chunk", [9, 16])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, HEAD_FP32), (torch.bfloat16, 2.0**-8)], ids=["fp32", "bf16"]
)
def test_linear_log_probs_equal_eager(
    dtype: torch.dtype, bound: float, trainable: bool, chunk: int
) -> None:
    """Chunks of 16 are padded with rows of zeros.

    fp32: another order of sums. bf16: both compute logits in bf16; the gradient is rounded once more, after the product
    with the upstream gradient."""
    states, targets, weight, bias = _problem(dtype, trainable)
    leaves = [states, weight, bias] if trainable else [states]
    upstream = torch.linspace(-2, 1, TOKENS)
    results: list[list[Tensor]] = []
    for compute, options in (
        (linear_log_probs, {"chunk_logits": chunk * VOCABULARY}),
        (linear_log_probs_eager, {}),
    ):
        result = compute(states, targets, weight, bias, **options)
        assert result.dtype == torch.float32
        results.append([result, *torch.autograd.grad(result, leaves, upstream)])
    for got, expected in zip(*results, strict=True):
        assert got.dtype == expected.dtype
        assert float((got - expected).detach().norm()) < bound * float(expected.detach().norm())


def test_linear_log_probs_of_trainable_and_frozen_head_are_bitwise_equal() -> None:
    """A model with a trainable head equals its frozen reference before the first step."""
    trainable = linear_log_probs(*_problem(torch.bfloat16, True))
    frozen = linear_log_probs(*(tensor.detach() for tensor in _problem(torch.bfloat16, False)))
    assert torch.equal(trainable, frozen)


@pytest.mark.parametrize("trainable", [True, False])
def test_linear_log_probs_hold_one_chunk_of_logits(trainable: bool) -> None:
    states, targets, weight, bias = _problem(torch.float32, trainable)
    with LargestTensor(lambda x: x.shape[-1:] == (VOCABULARY,) and len(x) != HIDDEN) as largest:
        linear_log_probs(states, targets, weight, bias, 5 * VOCABULARY).sum().backward()
    assert largest.numel == 5 * VOCABULARY


@pytest.mark.parametrize("trainable", [True, False])
def test_linear_log_probs_without_targets_have_zero_gradient(trainable: bool) -> None:
    states, targets, weight, bias = _problem(torch.bfloat16, trainable)
    linear_log_probs(states[:0], targets[:0], weight, bias).sum().backward()
    assert all(
        torch.equal(tensor.grad, torch.zeros_like(tensor))
        for tensor in ([states, weight] if trainable else [states])
    )


def test_linear_log_probs_with_missing_target_raises_value_error() -> None:
    states, targets, weight, bias = _problem(torch.float32, False)
    with pytest.raises(ValueError, match="states"):
        linear_log_probs(states, targets[:-1], weight, bias)
