"""Odds-ratio loss of ORPO (Hong, Lee and Thorne 2024, https://arxiv.org/abs/2403.07691)."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

MAX_LOGP = -1e-6
"""Upper bound of a mean log-probability: at 0 the odds are infinite."""


def log_odds(mean_log_probs: Tensor) -> Tensor:
    r"""Compute log-odds :math:`\log\frac{p}{1-p}` (equation 4 of the paper).

    Args:
        mean_log_probs: :math:`\log p`, mean log-probability per token of a completion, at most 0; clamped to
            :data:`MAX_LOGP`.

    Returns:
        The shape of ``mean_log_probs``.
    """
    clamped = mean_log_probs.clamp(max=MAX_LOGP)
    # Two forms of log(1 - p), each used where it is exact (Mächler 2012, "Accurately computing
    # log(1 - exp(-|a|))"). Each form is clamped to its own range; otherwise the unused one gives a NaN gradient.
    near = torch.log(-torch.expm1(clamped.clamp(min=-math.log(2))))
    far = torch.log1p(-torch.exp(clamped.clamp(max=-math.log(2))))
    return clamped - torch.where(clamped > -math.log(2), near, far)


def odds_ratio(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    r"""Compute :math:`-\beta\log\sigma(\log\mathrm{odds}(y_w|x) - \log\mathrm{odds}(y_l|x))` (equation 7).

    The paper calls beta lambda. Its full loss adds the negative log-likelihood of the chosen completion.

    Args:
        chosen: ``(pairs,)`` mean log-probability per token of the chosen completions.
        rejected: ``(pairs,)`` mean log-probability per token of the rejected completions.
        beta: weight of the term.

    Returns:
        ``(pairs,)``.
    """
    return -beta * logsigmoid(log_odds(chosen) - log_odds(rejected))
