"""The odds ratio of ORPO (Hong, Lee and Thorne 2024, https://arxiv.org/abs/2403.07691)."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

CERTAIN = -1e-6
"""Nearer to zero, a mean log-probability is taken for this: the odds of a certain answer are infinite."""


def log_odds(mean_log_probs: Tensor) -> Tensor:
    r"""The logarithm of the odds: :math:`\log\frac{p}{1-p}` (equation 4 of the paper).

    Args:
        mean_log_probs: :math:`\log p`, the log-probability of an answer divided by its length, at
            most zero.
    """
    clamped = mean_log_probs.clamp(max=CERTAIN)
    # Two forms of log(1 - p), each where it is exact (Mächler 2012, "Accurately computing
    # log(1 - exp(-|a|))"). The one not taken is kept finite, or its gradient would be NaN.
    near = torch.log(-torch.expm1(clamped.clamp(min=-math.log(2))))
    far = torch.log1p(-torch.exp(clamped.clamp(max=-math.log(2))))
    return clamped - torch.where(clamped > -math.log(2), near, far)


def odds_ratio(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    r""":math:`-\beta\log\sigma(\log\mathrm{odds}(y_w|x) - \log\mathrm{odds}(y_l|x))` (equation 7).

    The paper calls beta lambda. Its whole loss adds the negative log-likelihood of the chosen
    answer.

    Args:
        chosen: ``(pairs,)`` mean log-probability of the chosen answer's tokens.
        rejected: as ``chosen``.
        beta: weight of this term.

    Returns:
        ``(pairs,)``.
    """
    return -beta * logsigmoid(log_odds(chosen) - log_odds(rejected))
