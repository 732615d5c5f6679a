"""Log-probabilities behind a head, and where the largest logit stands."""

from typing import Any

import pytest
import torch
from helpers.tolerances import tolerance
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from xft.kernels import linear_log_probs, linear_log_probs_eager
from xft.kernels import logit_chunks as chunks

TOKENS, HIDDEN, VOCABULARY = 23, 16, 50
HEAD_FP32 = tolerance(torch.float32, 3 * VOCABULARY)
"""Logits, softmax and the product with its gradient, of at most 50 terms each."""


def _problem(dtype: torch.dtype, trained: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    states, weight, bias = draw(TOKENS, HIDDEN), draw(VOCABULARY, HIDDEN), draw(VOCABULARY)
    targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    weight.requires_grad_(trained)
    bias.requires_grad_(trained)
    return states.requires_grad_(), targets, weight, bias


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("most", [1, 7 * VOCABULARY, 10**6])
def test_gradient_is_that_of_finite_differences(
    monkeypatch: pytest.MonkeyPatch, trained: bool, most: int
) -> None:
    """Each token has a gradient of its own from above; rows in fp64 are taken three at a time."""
    monkeypatch.setitem(chunks.FP32_CHUNK_LOGITS, "cpu", 3 * VOCABULARY)
    states, targets, weight, bias = _problem(torch.float64, trained)

    def run(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_log_probs(states, targets, weight, bias, most)

    assert torch.autograd.gradcheck(run, (states, weight, bias), fast_mode=True)
    torch.testing.assert_close(
        run(states, weight, bias), linear_log_probs_eager(states, targets, weight, bias)
    )


@pytest.mark.parametrize("chunk", [9, 16])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, HEAD_FP32), (torch.bfloat16, 2.0**-8)], ids=["fp32", "bf16"]
)
def test_it_is_the_reference(dtype: torch.dtype, bound: float, trained: bool, chunk: int) -> None:
    """Chunks of 16 are filled up with rows of nothing.

    fp32: another order of sums. bf16: both make logits in bf16; the gradient is rounded once more, when it is
    multiplied by the number from above."""
    states, targets, weight, bias = _problem(dtype, trained)
    leaves = [states, weight, bias] if trained else [states]
    upstream = torch.linspace(-2, 1, TOKENS)
    found: list[list[Tensor]] = []
    for compute, more in (
        (linear_log_probs, {"chunk_logits": chunk * VOCABULARY}),
        (linear_log_probs_eager, {}),
    ):
        result = compute(states, targets, weight, bias, **more)
        assert result.dtype == torch.float32
        found.append([result, *torch.autograd.grad(result, leaves, upstream)])
    for got, expected in zip(*found, strict=True):
        assert got.dtype == expected.dtype
        assert float((got - expected).detach().norm()) < bound * float(expected.detach().norm())


def test_a_trained_head_and_a_frozen_one_give_the_same_bits() -> None:
    """A policy whose head is trained, and its frozen reference, differ by nothing before the first step."""
    trained = linear_log_probs(*_problem(torch.bfloat16, True))
    frozen = linear_log_probs(*(each.detach() for each in _problem(torch.bfloat16, False)))
    assert torch.equal(trained, frozen)


@pytest.mark.parametrize("trained", [True, False])
def test_no_more_logits_than_asked_for_are_ever_held(trained: bool) -> None:
    most = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal most
            result = func(*args, **(kwargs or {}))
            for each in result if isinstance(result, tuple) else (result,):
                if isinstance(each, Tensor) and each.shape[-1:] == (VOCABULARY,) and len(each) != HIDDEN:
                    most = max(most, each.numel())
            return result

    states, targets, weight, bias = _problem(torch.float32, trained)
    with Watch():
        linear_log_probs(states, targets, weight, bias, 5 * VOCABULARY).sum().backward()
    assert most == 5 * VOCABULARY


@pytest.mark.parametrize("trained", [True, False])
def test_no_targets_give_a_gradient_of_zeros(trained: bool) -> None:
    states, targets, weight, bias = _problem(torch.bfloat16, trained)
    linear_log_probs(states[:0], targets[:0], weight, bias).sum().backward()
    assert all(
        torch.equal(each.grad, torch.zeros_like(each))
        for each in ([states, weight] if trained else [states])
    )


def test_lengths_that_differ_are_refused() -> None:
    states, targets, weight, bias = _problem(torch.float32, False)
    with pytest.raises(ValueError, match="states"):
        linear_log_probs(states, targets[:-1], weight, bias)


@pytest.mark.parametrize("size", [3, 255, 256, 511, 512, 513, 700, 1024, 5000])
def test_the_first_of_the_largest_is_where_argmax_finds_it(size: int) -> None:
    """Numbers with few different values, so that the largest stands at many places of a row."""
    rows = torch.randint(4, (200, size), generator=torch.Generator().manual_seed(size)).float()
    rows[0], rows[1, -1], rows[2, size // 2 :] = 0.0, 9.0, 9.0
    values, places = chunks.blocked_argmax(rows)
    assert torch.equal(places[:, 0], rows.argmax(dim=1))
    assert torch.equal(values[:, 0], rows.amax(dim=1))
