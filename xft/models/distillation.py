"""Compare the distributions of the trained model with those of a teacher."""

from functools import partial

from torch import Tensor, nn

from xft.losses import generalized_jsd, token_divergence
from xft.models.scoring import MAX_LOGITS, eval_mode, head_chunks, head_inputs
from xft.types import Batch

COPIES = 4
"""Tensors of logits of a chunk that exist at the same time: of both models, and their mixture."""


def target_divergence(
    model: nn.Module, teacher: nn.Module, batch: Batch, beta: float, temperature: float = 1.0
) -> Tensor:
    """Compute the divergence from the teacher at each target token.

    Args:
        model: the trained causal language model, with or without an adapter.
        teacher: a frozen causal language model with the same tokens.
        batch: flat or padded.
        beta, temperature: as in :func:`~xft.losses.generalized_jsd`.

    Returns:
        ``(targets,)`` in fp32 (fp64 for models in fp64).
    """
    with eval_mode(teacher):
        teacher_states, _, teacher_head = head_inputs(teacher, batch)
    states, targets, head = head_inputs(model, batch)
    chunk_size, min_chunks = head_chunks(model, head, targets, MAX_LOGITS // COPIES)
    divergence = partial(generalized_jsd, beta=beta, temperature=temperature)
    return token_divergence(
        divergence, (states, head), (teacher_states, teacher_head), chunk_size, min_chunks
    )
