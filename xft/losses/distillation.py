"""Divergence between the distributions of a student and of its teacher, over the whole vocabulary."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from xft.losses.log_probs import Head, map_chunks

Divergence = Callable[[Tensor, Tensor], Tensor]
"""Maps logits of student and teacher, ``(tokens, vocabulary)`` each, to ``(tokens,)``."""


def generalized_jsd(student: Tensor, teacher: Tensor, beta: float, temperature: float = 1.0) -> Tensor:
    r"""Compute the generalized Jensen-Shannon divergence of each token (Agarwal et al. 2024, eq. 1).

    With the teacher :math:`P`, the student :math:`Q` and their mixture :math:`M = \beta P + (1 - \beta) Q`:
    :math:`\beta\, KL(P \| M) + (1 - \beta)\, KL(Q \| M)`. For :math:`\beta = 0` it is the forward :math:`KL(P \| Q)`, for
    :math:`\beta = 1` the reverse :math:`KL(Q \| P)`, as in TRL (https://arxiv.org/abs/2306.13649).

    Args:
        student: ``(tokens, vocabulary)`` logits.
        teacher: ``(tokens, vocabulary)`` logits. Columns that only one of the two has, which pad a vocabulary, are
            left out.
        beta: between 0 and 1.
        temperature: divisor of all logits.

    Returns:
        ``(tokens,)`` in nats, in fp32 (fp64 for fp64).
    """
    size = min(student.shape[1], teacher.shape[1])
    log_q, log_p = (_log_softmax(logits[:, :size], temperature) for logits in (student, teacher))
    if beta == 0:
        return _kl(log_p, log_q)
    if beta == 1:
        return _kl(log_q, log_p)
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


def token_divergence(
    divergence: Divergence,
    student: tuple[Tensor, Head],
    teacher: tuple[Tensor, Head],
    chunk_size: int,
    min_chunks: int = 1,
) -> Tensor:
    """Compute the divergence of each token in chunks, so that the logits of all tokens never exist at the same time.

    Args:
        divergence: of logits.
        student: ``(tokens, hidden)`` states, and the head that computes logits from them.
        teacher: the same of the teacher, without gradients.
        chunk_size, min_chunks: as in :func:`~xft.losses.token_log_probs`.

    Returns:
        ``(tokens,)``.
    """
    function = partial(_divergence_of_states, divergence, (student[1], teacher[1]))
    return map_chunks(function, (student[0], teacher[0]), chunk_size, min_chunks)


def _divergence_of_states(
    divergence: Divergence, heads: tuple[Head, Head], student: Tensor, teacher: Tensor
) -> Tensor:
    with torch.no_grad():
        teacher_logits = heads[1](teacher)
    return divergence(heads[0](student), teacher_logits)


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (wide / temperature).log_softmax(dim=1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)
