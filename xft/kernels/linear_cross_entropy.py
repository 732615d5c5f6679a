"""Cross-entropy of a linear head, in chunks of tokens (compare torchtune's ``LinearCrossEntropyLoss``).

``loss = -Σᵢ log softmax(hᵢ Wᵀ + c)[tᵢ]``. Why by hand: the gradient of the logits, ``softmax - onehot``, is known in
the forward pass. Each chunk therefore passes the head once, and only a gradient per hidden state is stored, never a
tensor of ``tokens × vocabulary``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from xft.kernels.logit_chunks import HeadGradients, iter_scores, pad_rows, rows_per_chunk


def linear_cross_entropy(
    states: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    chunk_logits: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the summed negative log-likelihood of targets and the number of targets with the largest logit.

    Logits have the type of ``states``; softmax, loss and sums are computed in fp32 (fp64 for fp64).

    Args:
        states: ``(tokens, hidden)`` inputs of the head.
        targets: ``(tokens,)`` token ids without ``ignore_index``.
        weight: ``(vocabulary, hidden)`` of the head, in the type of ``states``; frozen or trainable.
        bias: ``(vocabulary,)`` of the head or ``None``; frozen or trainable.
        chunk_logits: number of logits per chunk; ``None`` selects the default of the device.

    Returns:
        Two scalars: the sum, and the count, which has no gradient.

    Raises:
        ValueError: the numbers of states and targets differ.
    """
    chunk_size = rows_per_chunk(states, targets, weight, chunk_logits)
    loss, correct = _LinearCrossEntropy.apply(
        states, targets, weight, bias, chunk_size, torch.is_grad_enabled()
    )
    return loss, correct


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and count of :func:`linear_cross_entropy`, whose gradients are computed in the forward pass."""

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
        """Return loss and count; keep the gradients of the loss, ``(tokens, hidden)`` for the states."""
        wide = torch.promote_types(states.dtype, torch.float32)
        states = pad_rows(states, chunk_size)
        loss = torch.zeros((), dtype=wide, device=states.device)
        correct = torch.zeros((), dtype=torch.long, device=states.device)
        needs_states, _, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        needs = (with_grad and needs_states, with_grad and needs_weight, with_grad and needs_bias)
        gradients = HeadGradients(states, weight, bias, needs)
        for _, log_probs, num_correct in iter_scores(states, targets, weight, bias, chunk_size, gradients):
            loss -= log_probs.sum()
            correct += num_correct
        grad_states = None if gradients.states is None else gradients.states[: len(targets)]
        ctx.save_for_backward(grad_states, gradients.weight, gradients.bias)
        ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients of the loss by ``grad``, a scalar."""
        grad_states, grad_weight, grad_bias = ctx.saved_tensors
        weight_dtype, bias_dtype = ctx.dtypes
        return (
            None if grad_states is None else (grad_states * grad).to(grad_states.dtype),
            None,
            None if grad_weight is None else (grad_weight * grad).to(weight_dtype),
            None if grad_bias is None else (grad_bias * grad).to(bias_dtype),
            None,
            None,
        )
