"""RMSNorm as one operation of autograd.

``y = w x̂``, ``x̂ = x r``, ``r = 1 / sqrt(mean(x²) + eps)`` (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467).
Written as separate operations, each keeps a tensor in fp32 for the backward pass, which is a dozen passes over
them; here the input is kept as it is, with one number a token, and the gradient is taken in the few passes
that it needs: ``dx = r (g w - x̂ mean(g w x̂))``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide each vector by its root mean square, which is taken in fp32, and multiply by a weight.

    Args:
        x: ``(..., hidden)``.
        weight: ``(hidden,)``, in the type of ``x``; frozen or trained.
        eps: added to the mean square.

    Returns:
        ``(..., hidden)`` in the type of ``x``, the very bits of :func:`rms_norm_eager`.
    """
    result: Tensor = _RMSNorm.apply(x, weight, eps)
    return result


def rms_norm_eager(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The same in plain operations, as transformers has it for Llama and those that took it from there."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    variance = wide.pow(2).mean(-1, keepdim=True)
    return weight * (wide * torch.rsqrt(variance + eps)).to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt_(wide.pow(2).mean(-1, keepdim=True).add_(eps))
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        normalised = x.to(scale.dtype) * scale
        grad_x = grad_weight = None
        if ctx.needs_input_grad[1]:
            product = grad.to(scale.dtype) * normalised.to(x.dtype)
            grad_weight = product.flatten(0, -2).sum(dim=0).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            inner = (grad * weight).to(scale.dtype)
            mean = torch.linalg.vecdot(inner, normalised)[..., None].div_(-x.shape[-1])
            grad_x = inner.addcmul_(normalised, mean).mul_(scale).to(x.dtype)
        return grad_x, grad_weight, None
