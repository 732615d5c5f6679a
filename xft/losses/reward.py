r"""Losses of reward models, which assign a score :math:`s` to each completion."""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    r"""Compute the Bradley-Terry loss :math:`-\log\sigma(s_w - s_l - m)`.

    Bradley and Terry 1952, as in Ouyang et al. 2022 (https://arxiv.org/abs/2203.02155); the margin as in Llama 2
    (Touvron et al. 2023, https://arxiv.org/abs/2307.09288, equation 2).

    Args:
        chosen: ``(pairs,)`` scores of the chosen completions.
        rejected: ``(pairs,)`` scores of the rejected completions.
        margin: target difference of the scores, a number or ``(pairs,)``.

    Returns:
        ``(pairs,)``.
    """
    return -logsigmoid(chosen - rejected - margin)


def focal(chosen: Tensor, rejected: Tensor, gamma: float = 2.0) -> Tensor:
    r"""Compute the focal loss :math:`-(1 - 2\max(0, P - \frac12))^\gamma \log P` with :math:`P = \sigma(s_w - s_l)`.

    Pairs that are already ranked correctly have a lower weight. InternLM 2 (Cai et al. 2024,
    https://arxiv.org/abs/2403.17297), after Lin et al. 2017 (https://arxiv.org/abs/1708.02002).

    Args:
        chosen: ``(pairs,)`` scores of the chosen completions.
        rejected: ``(pairs,)`` scores of the rejected completions.
        gamma: strength of the weighting; 0 gives :func:`bradley_terry`.

    Returns:
        ``(pairs,)``.
    """
    difference = chosen - rejected
    weight = (1 - 2 * relu(torch.sigmoid(difference) - 0.5)) ** gamma
    return -weight * logsigmoid(difference)


def log_barrier(scores: Tensor, lower: float = -5.0, upper: float = 5.0, epsilon: float = 1e-3) -> Tensor:
    r"""Compute the penalty :math:`-\log(s - l) - \log(u - s)`, which keeps scores between two bounds.

    InternLM 2 (https://arxiv.org/abs/2403.17297), with bounds of -5 and 5. Closer than ``epsilon`` to a bound and
    beyond it, the penalty is extended linearly: the logarithm is undefined there, and the score needs a gradient.

    Args:
        scores: of any shape.
        lower: lower bound :math:`l`.
        upper: upper bound :math:`u`.
        epsilon: distance to a bound at which the linear extension starts.

    Returns:
        The shape of ``scores``.
    """
    return _barrier(scores - lower, epsilon) + _barrier(upper - scores, epsilon)


def l2_penalty(scores: Tensor) -> Tensor:
    r"""Compute the penalty :math:`s^2`, which centers scores; :func:`bradley_terry` depends on differences only."""
    return scores**2


def _barrier(distance: Tensor, epsilon: float) -> Tensor:
    inside = distance.clamp(min=epsilon)
    return -torch.log(inside) + (inside - distance) / epsilon
