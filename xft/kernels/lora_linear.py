"""A linear layer with a LoRA adapter, as one operation of autograd.

``y = x Wᵀ + c + s (x̃ Aᵀ) Bᵀ``, where ``W`` and ``c`` are frozen and ``x̃`` is ``x``, or ``x`` after
dropout. Written as separate operations (the reference below, and what peft does), the input and every
intermediate are kept in fp32 for the backward pass and cast on their way; here products are taken in the
type of ``x``, to which A and B are cast once, and only they, ``x̃`` and ``x̃ Aᵀ``, which is ``r`` numbers a token,
are kept.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

Dense = Callable[[], Tensor]
"""Gives a frozen weight ``(out, in)`` in the type of the input; a quantised one is dequantised each time."""


def lora_linear(
    x: Tensor,
    weight: Dense,
    bias: Tensor | None,
    lora_a: Tensor,
    lora_b: Tensor,
    scaling: float,
    dropped: Tensor | None = None,
) -> Tensor:
    """A frozen linear layer and its adapter.

    Args:
        x: ``(..., in)``.
        weight: called once here and once in the backward pass; what it gives is not kept.
        bias: ``(out,)``, frozen, or ``None``.
        lora_a: ``(r, in)``.
        lora_b: ``(out, r)``.
        scaling: of the adapter: ``alpha / r``.
        dropped: ``x`` after dropout, for the adapter alone; ``x`` itself where it is ``None``.

    Returns:
        ``(..., out)`` in the type of ``x``.
    """
    result: Tensor = _LoRALinear.apply(x, dropped, weight, bias, lora_a, lora_b, scaling)
    return result


def lora_linear_eager(
    x: Tensor,
    weight: Dense,
    bias: Tensor | None,
    lora_a: Tensor,
    lora_b: Tensor,
    scaling: float,
    dropped: Tensor | None = None,
) -> Tensor:
    """The same in plain operations, the adapter computed in its own type, as peft does."""
    inner = (x if dropped is None else dropped).to(lora_a.dtype)
    update = functional.linear(functional.linear(inner, lora_a), lora_b) * scaling
    return (functional.linear(x, weight(), bias) + update).to(x.dtype)


class _LoRALinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        weight: Dense,
        bias: Tensor | None,
        lora_a: Tensor,
        lora_b: Tensor,
        scaling: float,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        inner = rows if dropped is None else dropped.reshape(rows.shape)
        # Cast once, for both passes.
        a, b = lora_a.to(x.dtype), lora_b.to(x.dtype)
        low = inner @ a.t()
        result = functional.linear(rows, weight(), bias)
        result.addmm_(low, b.t(), alpha=scaling)
        ctx.save_for_backward(inner, low, a, b)
        ctx.weight, ctx.scaling, ctx.shares_input = weight, scaling, dropped is None
        ctx.types = lora_a.dtype, lora_b.dtype
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inner, low, a, b = ctx.saved_tensors
        shape = (*grad.shape[:-1], inner.shape[-1])
        rows = grad.reshape(-1, grad.shape[-1])
        wants_x, wants_dropped, _, _, wants_a, wants_b, _ = ctx.needs_input_grad
        grad_low = (rows @ b).mul_(ctx.scaling)
        grad_x = grad_dropped = grad_a = grad_b = None
        if wants_b:
            # A flat product with a long side takes three quarters of the time of a tall one, on a CPU.
            grad_b = (low.t() @ rows).t().to(ctx.types[1], memory_format=torch.contiguous_format)
            grad_b.mul_(ctx.scaling)
        if wants_a:
            grad_a = (grad_low.t() @ inner).to(ctx.types[0])
        if wants_x:
            grad_x = rows @ ctx.weight()
            if ctx.shares_input:
                grad_x.addmm_(grad_low, a)
            grad_x = grad_x.view(shape)
        if wants_dropped:
            grad_dropped = (grad_low @ a).view(shape)
        return grad_x, grad_dropped, None, None, grad_a, grad_b, None
