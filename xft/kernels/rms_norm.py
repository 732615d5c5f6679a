"""RMSNorm as one autograd function.

``y = w x̂``, ``x̂ = x r``, ``r = 1 / sqrt(mean(x²) + eps)`` (Zhang and Sennrich 2019, https://arxiv.org/abs/1910.07467);
``dx = r (g w - x̂ mean(g w x̂))``.

Why by hand: as separate operations, each stores a tensor in fp32, and the backward pass reads them a dozen times. Here
the input is stored in its own type, with one number per token. Measured: the backward pass takes a quarter of the time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divide each vector by its root mean square, computed in fp32, and multiply by a weight.

    Args:
        x: ``(..., hidden)``.
        weight: ``(hidden,)``, in the type of ``x``; frozen or trainable.
        eps: constant added to the mean square.

    Returns:
        ``(..., hidden)`` in the type of ``x``, bitwise equal to :func:`rms_norm_eager`.
    """
    result: Tensor = _RMSNorm.apply(x, weight, eps)
    return result


def rms_norm_eager(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Compute RMSNorm in eager operations, as the Llama of transformers and models derived from it do."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    variance = wide.pow(2).mean(-1, keepdim=True)
    return weight * (wide * torch.rsqrt(variance + eps)).to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    """Norm of :func:`rms_norm`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Return ``(..., hidden)``; keep the input and ``(..., 1)`` reciprocal root mean squares in fp32."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt_(wide.pow(2).mean(-1, keepdim=True).add_(eps))
        ctx.save_for_backward(x, weight, scale)
        return weight * (wide * scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of ``x`` and ``weight``.

        With ``n = x * scale`` and ``g = grad * weight``, the gradient of ``x`` is ``(g - n * mean(g * n)) * scale``.
        """
        x, weight, scale = ctx.saved_tensors
        normalized = x.to(scale.dtype) * scale
        grad_x = grad_weight = None
        if ctx.needs_input_grad[1]:
            product = grad.to(scale.dtype) * normalized.to(x.dtype)
            grad_weight = product.flatten(0, -2).sum(dim=0).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            inner = (grad * weight).to(scale.dtype)
            mean = torch.linalg.vecdot(inner, normalized)[..., None].div_(-x.shape[-1])
            grad_x = inner.addcmul_(normalized, mean).mul_(scale).to(x.dtype)
        return grad_x, grad_weight, None
