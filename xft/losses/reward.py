r"""Losses of reward models, which give each answer a score :math:`s`."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    r""":math:`-\log\sigma(s_w - s_l - m)`.

    The model of Bradley and Terry 1952, as in Ouyang et al. 2022 (https://arxiv.org/abs/2203.02155);
    the margin is that of Llama 2 (Touvron et al. 2023, https://arxiv.org/abs/2307.09288, equation 2).

    Args:
        chosen: ``(pairs,)`` scores of the chosen answers.
        rejected: ``(pairs,)`` scores of the rejected answers.
        margin: by how much the chosen one shall win, one number or ``(pairs,)``.

    Returns:
        ``(pairs,)``.
    """
    return -logsigmoid(chosen - rejected - margin)


def focal(chosen: Tensor, rejected: Tensor, gamma: float = 2.0) -> Tensor:
    r""":math:`-(1 - 2\max(0, P - \frac12))^\gamma \log P`, where :math:`P = \sigma(s_w - s_l)`.

    Pairs that are told apart already weigh less: InternLM 2 (Cai et al. 2024,
    https://arxiv.org/abs/2403.17297), after Lin et al. 2017 (https://arxiv.org/abs/1708.02002).

    Args:
        chosen: as in :func:`bradley_terry`.
        rejected: as in :func:`bradley_terry`.
        gamma: how much less they weigh; 0 is :func:`bradley_terry`.
    """
    difference = chosen - rejected
    weight = (1 - 2 * relu(torch.sigmoid(difference) - 0.5)) ** gamma
    return -weight * logsigmoid(difference)


def log_barrier(scores: Tensor, lower: float = -5.0, upper: float = 5.0, epsilon: float = 1e-3) -> Tensor:
    r""":math:`-\log(s - l) - \log(u - s)`: keeps scores between two bounds.

    InternLM 2 (https://arxiv.org/abs/2403.17297), with bounds of -5 and 5. Nearer than ``epsilon``
    to a bound, and beyond it, the penalty goes on as a straight line: there the logarithm has no
    value, and a score that has got there must find back.

    Args:
        scores: of any shape.
        lower: :math:`l`.
        upper: :math:`u`.
        epsilon: where the straight line begins.

    Returns:
        The shape of ``scores``.
    """
    return _barrier(scores - lower, epsilon) + _barrier(upper - scores, epsilon)


def l2_penalty(scores: Tensor) -> Tensor:
    r""":math:`s^2`: keeps scores near zero, for :func:`bradley_terry` sees their difference alone."""
    return scores**2


def _barrier(distance: Tensor, epsilon: float) -> Tensor:
    inside = distance.clamp(min=epsilon)
    return -torch.log(inside) + (inside - distance) / epsilon
