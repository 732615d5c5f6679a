"""Kernels and attention on a GPU, against the same formula in fp64 on the CPU."""

from collections.abc import Callable, Sequence

import pytest
import torch
from helpers.numbers_near import distance, draw
from helpers.tolerances import tolerance
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention

from xft.kernels import (
    linear_cross_entropy,
    linear_log_probs,
    lora_linear,
    rms_norm,
    rms_norm_eager,
    silu_mul,
    silu_mul_eager,
)
from xft.models.attention import packed_attention

Function = Callable[..., Tensor]
TOKENS, WIDTH, RANK, VOCABULARY = 96, 128, 8, 500
TARGETS = torch.arange(TOKENS) * 7 % VOCABULARY
LENGTHS = (40, 9, 130, 77)
HEADS, GROUPS, HEAD_DIM = 4, 2, 64


def lora(x: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return lora_linear(x, lambda: weight, None, a, b, 2.0)


def lora_eager(x: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return linear(x, weight) + linear(linear(x, a.to(x.dtype)), b.to(x.dtype)) * 2.0


def head_loss(states: Tensor, weight: Tensor) -> Tensor:
    return linear_cross_entropy(states, TARGETS.to(states.device), weight)[0]


def head_loss_eager(states: Tensor, weight: Tensor) -> Tensor:
    logits = linear(states, weight)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return cross_entropy(wide, TARGETS.to(states.device), reduction="sum")


def log_probs(states: Tensor, weight: Tensor) -> Tensor:
    return linear_log_probs(states, TARGETS.to(states.device), weight)


def log_probs_eager(states: Tensor, weight: Tensor) -> Tensor:
    logits = linear(states, weight)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide.log_softmax(dim=-1).gather(1, TARGETS.to(states.device)[:, None])[:, 0]


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    module = torch.nn.Module()
    states = packed_attention(module, query, key, value, None, seq_lens=LENGTHS, kernels=True)[0]
    return states.transpose(1, 2)


def attention_eager(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    parts = zip(*(states.split(LENGTHS, dim=2) for states in (query, key, value)), strict=True)
    return torch.cat(
        [scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True) for part in parts], dim=2
    )


# Kernel, formula, shapes of the inputs, and which of them are fp32 at any dtype.
CASES: dict[str, tuple[Function, Function, Sequence[tuple[int, ...]], set[int]]] = {
    "rms_norm": (
        lambda x, weight: rms_norm(x, weight, 1e-5),
        lambda x, weight: rms_norm_eager(x, weight, 1e-5),
        [(1, TOKENS, WIDTH), (WIDTH,)],
        set(),
    ),
    "swiglu": (silu_mul, silu_mul_eager, [(TOKENS, WIDTH), (TOKENS, WIDTH)], set()),
    "lora_linear": (
        lora,
        lora_eager,
        [(TOKENS, WIDTH), (WIDTH, WIDTH), (RANK, WIDTH), (WIDTH, RANK)],
        {2, 3},
    ),
    "linear_cross_entropy": (head_loss, head_loss_eager, [(TOKENS, WIDTH), (VOCABULARY, WIDTH)], set()),
    "linear_log_probs": (log_probs, log_probs_eager, [(TOKENS, WIDTH), (VOCABULARY, WIDTH)], set()),
    "attention": (
        attention,
        attention_eager,
        [(1, heads, sum(LENGTHS), HEAD_DIM) for heads in (HEADS, GROUPS, GROUPS)],
        set(),
    ),
}


def results(
    function: Function, inputs: Sequence[Tensor], upstream: Tensor, frozen: frozenset[int]
) -> list[Tensor]:
    """Return the output and the gradients of the inputs that are not frozen."""
    leaves = [value.detach().requires_grad_(index not in frozen) for index, value in enumerate(inputs)]
    output = function(*leaves)
    grads = torch.autograd.grad(
        output, [leaf for leaf in leaves if leaf.requires_grad], upstream.to(output.device, output.dtype)
    )
    return [output, *grads]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_kernel_on_a_gpu_is_as_exact_as_its_formula(
    gpu: torch.device, name: str, dtype: torch.dtype
) -> None:
    """In fp32 within the rounding of the sums; in bf16 at most half again as far from fp64 as eager operations."""
    kernel, formula, shapes, wide = CASES[name]
    frozen = frozenset({1}) if name == "lora_linear" else frozenset()
    exact = [draw(*shape, seed=number) / shape[-1] ** 0.25 for number, shape in enumerate(shapes)]
    rounded = [value.to(torch.float32 if index in wide else dtype) for index, value in enumerate(exact)]
    expected_output = formula(*(value.double() for value in rounded))
    upstream = draw(*expected_output.shape, seed=9).to(dtype)
    expected = results(formula, [value.double() for value in rounded], upstream, frozen)
    there = [value.to(gpu) for value in rounded]
    got, eager = (results(function, there, upstream, frozen) for function in (kernel, formula))
    for one, plain, right in zip(got, eager, expected, strict=True):
        bound = tolerance(torch.float32, 4 * max(WIDTH, VOCABULARY))
        if dtype == torch.bfloat16:
            bound = 1.5 * distance(plain.cpu(), right) + torch.finfo(dtype).eps / 4
        assert distance(one.cpu(), right) < bound
