"""Log-probabilities of targets after a linear head, in chunks of tokens.

``log softmax(hᵢ Wᵀ + c)[tᵢ]`` for each token; its gradient is ``onehot - softmax`` times the upstream gradient, a
single number per token. Why by hand: with a frozen head, the gradient of the hidden states is computed along with the
logits, as for the cross-entropy, and scaled in the backward pass; no product is computed twice. The gradient of a
trainable head is a sum over tokens, so the backward pass recomputes the logits.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from xft.kernels.logit_chunks import (
    HeadGradients,
    iter_logits,
    iter_scores,
    pad_rows,
    rows_per_chunk,
    score_logits,
)


def linear_log_probs(
    states: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    chunk_logits: int | None = None,
) -> Tensor:
    """Compute the log-probability of each target token after a linear head.

    Logits have the type of ``states``; the log-softmax is computed in fp32 (fp64 for fp64).

    Args:
        states: ``(tokens, hidden)`` inputs of the head.
        targets: ``(tokens,)`` token ids without ``ignore_index``.
        weight: ``(vocabulary, hidden)`` of the head, in the type of ``states``; frozen or trainable.
        bias: ``(vocabulary,)`` of the head or ``None``; frozen or trainable.
        chunk_logits: number of logits per chunk; ``None`` selects the default of the device.

    Returns:
        ``(tokens,)``.

    Raises:
        ValueError: the numbers of states and targets differ.
    """
    chunk_size = rows_per_chunk(states, targets, weight, chunk_logits)
    log_probs: Tensor = _LinearLogProbs.apply(
        states, targets, weight, bias, chunk_size, torch.is_grad_enabled()
    )
    return log_probs


class _LinearLogProbs(torch.autograd.Function):
    """Log-probabilities of :func:`linear_log_probs`."""

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
        """Return ``(tokens,)``; keep the gradients of the states, or the inputs if the head is trainable."""
        needs_states, _, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        recompute = with_grad and (needs_weight or needs_bias)
        states = pad_rows(states, chunk_size)
        wide = torch.promote_types(states.dtype, torch.float32)
        log_probs = torch.empty(len(targets), dtype=wide, device=states.device)
        needs = (with_grad and needs_states and not recompute, False, False)
        gradients = HeadGradients(states, weight, bias, needs)
        for chunk, scores, _ in iter_scores(states, targets, weight, bias, chunk_size, gradients):
            log_probs[chunk] = scores
        ctx.chunk_size = chunk_size
        inputs = (states, targets, weight, bias) if recompute else ()
        ctx.save_for_backward(gradients.states, *inputs)
        return log_probs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of states, weight and bias; ``grad`` is ``(tokens,)``."""
        grad_states, *inputs = ctx.saved_tensors
        if inputs:
            needs_states, _, needs_weight, needs_bias, *_ = ctx.needs_input_grad
            needs = (needs_states, needs_weight, needs_bias)
            states, targets, weight, bias = inputs
            return _recompute_gradients(states, targets, weight, bias, grad, ctx.chunk_size, needs)
        # Stored is the gradient of the negative log-probability.
        if grad_states is not None:
            grad_states = (grad_states[: len(grad)] * -grad[:, None]).to(grad_states.dtype)
        return grad_states, None, None, None, None, None


def _recompute_gradients(
    states: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    grad: Tensor,
    chunk_size: int,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, ...]:
    """Compute the gradients of states, weight and bias from recomputed logits."""
    gradients = HeadGradients(states, weight, bias, needs)
    for chunk, logits in iter_logits(states, weight, bias, chunk_size):
        score_logits(logits, targets[chunk], True)
        logits[: len(grad[chunk])] *= -grad[chunk, None]
        gradients.add(chunk, logits, states, weight)
        if gradients.bias is not None:
            gradients.bias += logits.sum(dim=0, dtype=gradients.bias.dtype)
    return (
        None if gradients.states is None else gradients.states[: len(grad)],
        None,
        None if gradients.weight is None else gradients.weight.to(weight.dtype),
        None if gradients.bias is None or bias is None else gradients.bias.to(bias.dtype),
        None,
        None,
    )
