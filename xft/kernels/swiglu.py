"""The gate of a Llama's inner layer, ``silu(gate) * up``, as one operation of autograd.

Written as two, the activation is kept for the backward pass beside its input; here it is made again, some rows
at a time, so that on a CPU what is made stays in its cache. (Shazeer 2020, https://arxiv.org/abs/2002.05202.)
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

ROWS = {"cpu": 256, "cuda": 2**30}
"""Tokens at a time, by device."""


def silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up``.

    Args:
        gate: ``(..., inner)``.
        up: likewise.

    Returns:
        ``(..., inner)``, the very bits of :func:`silu_mul_eager`.
    """
    result: Tensor = _SiLUMul.apply(gate, up)
    return result


def silu_mul_eager(gate: Tensor, up: Tensor) -> Tensor:
    """Compute the same with eager torch operations."""
    return functional.silu(gate) * up


class _SiLUMul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        saved = ctx.saved_tensors
        gate, up, given = (each.reshape(-1, grad.shape[-1]) for each in (*saved, grad))
        grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
        size = ROWS.get(grad.device.type, ROWS["cuda"])
        for start in range(0, len(given), size):
            rows = slice(start, start + size)
            torch.mul(given[rows], functional.silu(gate[rows]), out=grad_up[rows])
            torch.ops.aten.silu_backward.grad_input(
                given[rows] * up[rows], gate[rows], grad_input=grad_gate[rows]
            )
        return grad_gate.view(grad.shape), grad_up.view(grad.shape)
