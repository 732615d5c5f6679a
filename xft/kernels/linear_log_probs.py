"""Log-probabilities behind a head, in chunks: the logits of all tokens never exist at once.

``log softmax(hᵢ Wᵀ + c)[tᵢ]`` of each token. Its gradient is ``onehot - softmax`` times what comes from above,
which is a single number a token. So behind a frozen head the gradient is made with the logits, as that of the
cross-entropy is, and multiplied when the number is known: nothing is computed twice. The gradient of a
trained head is a sum over tokens, and logits are made again when their numbers are known.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from xft.kernels.logit_chunks import chunk_of_logits, pad_rows, rows_per_chunk, score_logits


def linear_log_probs(
    states: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    chunk_logits: int | None = None,
) -> Tensor:
    """Compute the log-probability of each target token after a linear head.

    Logits are made in the type of ``states``, everything behind them in fp32 (fp64 for fp64).

    Args:
        states: ``(tokens, hidden)``, what the head takes.
        targets: ``(tokens,)`` ids, none of them ignored.
        weight: ``(vocabulary, hidden)`` of the head, in the type of ``states``; frozen or trained.
        bias: ``(vocabulary,)`` or ``None``; likewise.
        chunk_logits: number of logits per chunk; ``None`` selects the default of the device.

    Returns:
        ``(tokens,)``.

    Raises:
        ValueError: there are not as many targets as states.
    """
    chunk_size = rows_per_chunk(states, targets, weight, chunk_logits)
    found: Tensor = _LinearLogProbs.apply(
        states, targets, weight, bias, chunk_size, torch.is_grad_enabled()
    )
    return found


def linear_log_probs_eager(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Compute the same with eager torch operations and all logits in memory."""
    logits = functional.linear(states, weight, bias)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.log_softmax(dim=-1).gather(1, targets[:, None])[:, 0]


class _LinearLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        targets: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        chunk_size: int,
        with_grad: bool,
    ) -> Tensor:
        wants_states, _, wants_weight, wants_bias, _, _ = (
            with_grad and each for each in ctx.needs_input_grad
        )
        later = wants_weight or wants_bias
        wide = torch.promote_types(states.dtype, torch.float32)
        states = pad_rows(states, chunk_size)
        found = torch.empty(len(targets), dtype=wide, device=states.device)
        grad_states = torch.empty_like(states) if wants_states and not later else None
        out = states.new_empty(min(chunk_size, len(states)), len(weight))
        for start in range(0, len(states), chunk_size):
            piece = slice(start, start + chunk_size)
            logits = chunk_of_logits(states[piece], weight, bias, out)
            found[piece], _ = score_logits(logits, targets[piece], grad_states is not None)
            if grad_states is not None:
                torch.mm(logits, weight, out=grad_states[piece])
        ctx.chunk_size = chunk_size
        ctx.save_for_backward(grad_states, *((states, targets, weight, bias) if later else ()))
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_states, *given = ctx.saved_tensors
        if given:
            states, targets, weight, bias = given
            return _recompute_gradients(
                states, targets, weight, bias, grad, ctx.chunk_size, ctx.needs_input_grad
            )
        # What is kept is the gradient of the negative log-probability.
        upstream = (
            None
            if grad_states is None
            else (grad_states[: len(grad)] * -grad[:, None]).to(grad_states.dtype)
        )
        return upstream, None, None, None, None, None


def _recompute_gradients(
    states: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    grad: Tensor,
    chunk_size: int,
    wants: tuple[bool, ...],
) -> tuple[Tensor | None, ...]:
    """The gradients of states, head and bias, with the logits made anew."""
    wide = torch.promote_types(states.dtype, torch.float32)
    grad_states = torch.empty_like(states) if wants[0] else None
    grad_weight = torch.zeros_like(weight, dtype=wide) if wants[2] else None
    grad_bias = torch.zeros_like(bias, dtype=wide) if bias is not None and wants[3] else None
    out = states.new_empty(min(chunk_size, len(states)), len(weight))
    for start in range(0, len(states), chunk_size):
        piece = slice(start, start + chunk_size)
        logits = chunk_of_logits(states[piece], weight, bias, out)
        score_logits(logits, targets[piece], True)
        logits[: len(grad[piece])] *= -grad[piece, None]
        if grad_states is not None:
            torch.mm(logits, weight, out=grad_states[piece])
        if grad_weight is not None:
            grad_weight += logits.t() @ states[piece]
        if grad_bias is not None:
            grad_bias += logits.sum(dim=0, dtype=wide)
    return (
        None if grad_states is None else grad_states[: len(grad)],
        None,
        None if grad_weight is None else grad_weight.to(weight.dtype),
        None if grad_bias is None or bias is None else grad_bias.to(bias.dtype),
        None,
        None,
    )
