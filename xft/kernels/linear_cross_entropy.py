"""Cross-entropy behind a head, in chunks: the logits of all tokens never exist at once.

``loss = -Σᵢ log softmax(hᵢ Wᵀ + c)[tᵢ]``. Its gradient, ``softmax - onehot``, is known as soon as the
logits are, so each chunk of tokens goes through the head once and its gradient goes back at once: what is
kept is a gradient for each hidden state, and none of ``tokens x vocabulary``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from xft.kernels.logit_chunks import chunk_of_logits, pad_rows, rows_per_chunk, score_logits


def linear_cross_entropy(
    states: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    chunk_logits: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the summed negative log-likelihood of targets and the number of them ranked first.

    Logits are made in the type of ``states``, everything behind them in fp32 (fp64 for fp64).

    Args:
        states: ``(tokens, hidden)``, what the head takes.
        targets: ``(tokens,)`` ids, none of them ignored.
        weight: ``(vocabulary, hidden)`` of the head, in the type of ``states``; frozen or trained.
        bias: ``(vocabulary,)`` or ``None``; likewise.
        chunk_logits: number of logits per chunk; ``None`` selects the default of the device.

    Returns:
        Two scalars: the sum, and the count, which has no gradient.

    Raises:
        ValueError: there are not as many targets as states.
    """
    chunk_size = rows_per_chunk(states, targets, weight, chunk_logits)
    loss, correct = _LinearCrossEntropy.apply(
        states, targets, weight, bias, chunk_size, torch.is_grad_enabled()
    )
    return loss, correct


def linear_cross_entropy_eager(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the same with eager torch operations and all logits in memory."""
    logits = functional.linear(states, weight, bias)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    correct = (logits.argmax(dim=-1) == targets).sum()
    return functional.cross_entropy(wide, targets, reduction="sum"), correct


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        targets: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        chunk_size: int,
        with_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        wants_states, _, wants_weight, wants_bias, _, _ = (
            with_grad and each for each in ctx.needs_input_grad
        )
        wide = torch.promote_types(states.dtype, torch.float32)
        states = pad_rows(states, chunk_size)
        loss = torch.zeros((), dtype=wide, device=states.device)
        correct = torch.zeros((), dtype=torch.long, device=states.device)
        grad_states = torch.empty_like(states) if wants_states else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if wants_weight else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wants_bias else None
        with_grad = wants_states or wants_weight or wants_bias
        out = torch.empty(
            min(chunk_size, len(states)), len(weight), dtype=states.dtype, device=states.device
        )
        for start in range(0, len(states), chunk_size):
            piece = slice(start, start + chunk_size)
            logits = chunk_of_logits(states[piece], weight, bias, out)
            log_probs, first = score_logits(logits, targets[piece], with_grad, grad_bias)
            loss -= log_probs.sum()
            correct += first
            if grad_states is not None:
                torch.mm(logits, weight, out=grad_states[piece])
            if grad_weight is not None:
                grad_weight += logits.t() @ states[piece]
        if grad_states is not None:
            grad_states = grad_states[: len(targets)]
        ctx.save_for_backward(grad_states, grad_weight, grad_bias)
        ctx.types = weight.dtype, None if bias is None else bias.dtype
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_states, grad_weight, grad_bias = ctx.saved_tensors
        weight_type, bias_type = ctx.types
        return (
            None if grad_states is None else (grad_states * grad).to(grad_states.dtype),
            None,
            None if grad_weight is None else (grad_weight * grad).to(weight_type),
            None if grad_bias is None else (grad_bias * grad).to(bias_type),
            None,
            None,
        )
