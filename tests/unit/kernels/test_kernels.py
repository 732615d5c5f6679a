"""Each kernel against its plain reference, and its gradient against finite differences."""

from typing import Any

import pytest
import torch
from helpers.numbers_near import BF16, distance
from helpers.tolerances import tolerance
from torch import Tensor

from xft.kernels import linear_cross_entropy, linear_cross_entropy_eager, lora_linear, lora_linear_eager

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
def test_gradient_of_the_lora_layer_is_that_of_finite_differences(bias: bool, dropped: bool) -> None:
    given = _lora(torch.float64, torch.float64, bias)
    mask = (torch.rand(1, ROWS, IN, generator=torch.Generator().manual_seed(1)) > 0.3).double() / 0.7

    def run(x: Tensor, lora_a: Tensor, lora_b: Tensor) -> Tensor:
        after = x * mask if dropped else None
        return lora_linear(x, given["weight"], given["bias"], lora_a, lora_b, 2.0, after)

    inputs = (given["x"], given["lora_a"], given["lora_b"])
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float32, tolerance(torch.float32, 2 * max(IN, OUT, ROWS))), (torch.bfloat16, BF16)],
    ids=["fp32", "bf16"],
)
def test_lora_layer_is_the_reference(dtype: torch.dtype, bound: float) -> None:
    """fp32: another order of sums. bf16: the low-rank product and the update are rounded to bf16, once
    each, where the reference has fp32: as far as rounding the result itself is from it."""
    given = _lora(dtype, torch.float32)
    upstream = torch.randn(1, ROWS, OUT, generator=torch.Generator().manual_seed(2)).to(dtype)
    leaves = [given["x"], given["lora_a"], given["lora_b"]]
    found = []
    for compute in (lora_linear, lora_linear_eager):
        result = compute(**given)
        assert result.dtype == dtype
        found.append([result, *torch.autograd.grad(result, leaves, upstream)])
    for got, expected in zip(*found, strict=True):
        assert got.dtype == expected.dtype
        assert distance(got, expected) < bound


def test_lora_layer_keeps_the_input_and_r_numbers_a_token() -> None:
    given = _lora(torch.bfloat16, torch.float32)
    kept: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda each: each):
        lora_linear(**given)
    sizes = sorted(each.numel() for each in kept)
    assert sizes == sorted([RANK * IN, OUT * RANK, ROWS * RANK, ROWS * IN])
    assert {each.dtype for each in kept} == {torch.bfloat16}


def test_an_input_without_gradient_costs_no_product_with_the_weight() -> None:
    given = _lora(torch.float32, torch.float32)
    given["x"] = given["x"].detach()
    calls = []
    weight = given["weight"]()
    given["weight"] = lambda: calls.append(1) or weight
    lora_linear(**given).sum().backward()
    assert len(calls) == 1
    assert given["lora_a"].grad is not None


VOCABULARY = 50
HEAD_FP32 = tolerance(torch.float32, 3 * VOCABULARY)
"""Logits, softmax and the product with its gradient, of at most 50 terms each."""


def _head(dtype: torch.dtype, bias: bool = False, trained: bool = False) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(ROWS, IN, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, IN, generator=generator, dtype=torch.float64).to(dtype)
    offset = torch.randn(VOCABULARY, generator=generator, dtype=torch.float64).to(dtype) if bias else None
    if trained:
        weight.requires_grad_()
    if trained and offset is not None:
        offset.requires_grad_()
    targets = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    first = (states.detach().double() @ weight.detach().double().t()).argmax(dim=1)
    targets[::3] = first[::3]
    return states, targets, weight, offset


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("most", [1, 7 * VOCABULARY, 10**6])
def test_gradient_of_the_cross_entropy_is_that_of_finite_differences(trained: bool, most: int) -> None:
    states, targets, weight, bias = _head(torch.float64, bias=True, trained=trained)

    def run(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_cross_entropy(states, targets, weight, bias, most)[0] * 0.3

    assert torch.autograd.gradcheck(run, (states, weight, bias), fast_mode=True)


@pytest.mark.parametrize("chunk", [9, 16])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, HEAD_FP32), (torch.bfloat16, BF16)], ids=["fp32", "bf16"]
)
def test_cross_entropy_is_the_reference(
    dtype: torch.dtype, bound: float, trained: bool, chunk: int
) -> None:
    """Chunks of 16 are filled up with rows of nothing.

    fp32: another order of sums. bf16: both make the logits in bf16; the gradient of the weight is added
    up over chunks in fp32, and rounded once more than in one product."""
    states, targets, weight, bias = _head(dtype, trained=trained)
    leaves = [states, weight] if trained else [states]
    found = []
    for compute, more in (
        (linear_cross_entropy, {"chunk_logits": chunk * VOCABULARY}),
        (
            linear_cross_entropy_eager,
            {},
        ),
    ):
        loss, correct = compute(states, targets, weight, bias, **more)
        assert loss.dtype == torch.float32
        found.append((loss.detach(), int(correct), *torch.autograd.grad(loss / 7, leaves)))
    (loss, correct, *grads), (expected_loss, expected_correct, *expected) = found
    assert correct == expected_correct > 0
    assert float(loss) == pytest.approx(float(expected_loss), rel=HEAD_FP32)
    for got, wanted in zip(grads, expected, strict=True):
        assert got.dtype == wanted.dtype == dtype
        assert distance(got, wanted) < bound


def test_cross_entropy_never_holds_the_logits_of_all_tokens() -> None:
    """The largest tensor that is made, by what torch says of each operation."""
    from torch.utils._python_dispatch import TorchDispatchMode

    most = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal most
            result = func(*args, **(kwargs or {}))
            for each in result if isinstance(result, tuple) else (result,):
                if isinstance(each, Tensor):
                    most = max(most, each.numel())
            return result

    states, targets, weight, _ = _head(torch.float32)
    with Watch():
        loss, _ = linear_cross_entropy(states, targets, weight, chunk_logits=8 * VOCABULARY)
        loss.backward()
    assert most < ROWS * VOCABULARY
    assert most >= 8 * VOCABULARY


@pytest.mark.parametrize("grad", [True, False])
def test_no_targets_give_zero_and_a_gradient_of_zeros(grad: bool) -> None:
    states, targets, weight, _ = _head(torch.bfloat16)
    with torch.set_grad_enabled(grad):
        loss, correct = linear_cross_entropy(states[:0], targets[:0], weight)
    assert float(loss) == 0
    assert int(correct) == 0
    if grad:
        loss.backward()
        assert torch.equal(states.grad, torch.zeros_like(states))


def test_lengths_that_differ_are_refused() -> None:
    states, targets, weight, _ = _head(torch.float32)
    with pytest.raises(ValueError, match="states"):
        linear_cross_entropy(states, targets[:-1], weight)
