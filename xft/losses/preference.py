r"""Losses of preference pairs.

All take how much more probable a model has made the chosen and the rejected answer than the
reference has them: :math:`c = \log \pi(y_w|x) - \log \pi_\mathrm{ref}(y_w|x)` and
:math:`r = \log \pi(y_l|x) - \log \pi_\mathrm{ref}(y_l|x)`, each ``(pairs,)``, and give ``(pairs,)``.
Without a reference, :math:`c` and :math:`r` are the log-probabilities themselves. Where a formula
knows no ``label_smoothing``, it is ignored here, and objectives refuse it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

PairLoss = Callable[[Tensor, Tensor, float, float], Tensor]
"""``(chosen, rejected, beta, label_smoothing) -> (pairs,)``."""


def sigmoid(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""DPO: :math:`-(1-\epsilon) \log \sigma(\beta(c-r)) - \epsilon \log \sigma(-\beta(c-r))`.

    Rafailov et al. 2023 (https://arxiv.org/abs/2305.18290), equation 7. With
    :math:`\epsilon` > 0 it is conservative DPO (Mitchell 2023,
    https://ericmitchell.ai/cdpo.pdf): that share of the labels is taken to be the wrong way round.
    """
    scaled = beta * (chosen - rejected)
    return -(1 - label_smoothing) * logsigmoid(scaled) - label_smoothing * logsigmoid(-scaled)


def robust(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""Robust DPO: DPO's loss as it would be without noise in the labels, on average.

    :math:`[-(1-\epsilon) \log \sigma(\beta(c-r)) + \epsilon \log \sigma(-\beta(c-r))] / (1-2\epsilon)`;
    Chowdhury et al. 2024 (https://arxiv.org/abs/2403.00409).
    """
    scaled = beta * (chosen - rejected)
    kept, flipped = -logsigmoid(scaled), -logsigmoid(-scaled)
    return ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def hinge(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r""":math:`\max(0, 1 - \beta(c-r))`.

    SLiC's calibration loss (Zhao et al. 2023, https://arxiv.org/abs/2305.10425) on log-ratios, as in
    RSO (Liu et al. 2023, https://arxiv.org/abs/2309.06657).
    """
    return relu(1 - beta * (chosen - rejected))


def ipo(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""IPO: :math:`(c - r - 1/(2\beta))^2`.

    Azar et al. 2023 (https://arxiv.org/abs/2310.12036), equation 17, where beta is called tau.
    Meant for log-ratios divided by the answer's length; otherwise long answers weigh by their
    square.
    """
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def kto_pair(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""KTO on pairs: half of :math:`[1 - \sigma(\beta(c - z_r))] + [1 - \sigma(\beta(z_c - r))]`.

    :math:`z_c` and :math:`z_r` are the means of :math:`c` and :math:`r` over the batch, at least zero
    and without a gradient: each kind of answer is measured against the other (Ethayarajh et al. 2024,
    https://arxiv.org/abs/2402.01306, first version). The loss of a pair so depends on its
    neighbours.
    """
    base_chosen = _at_least_zero(chosen)
    base_rejected = _at_least_zero(rejected)
    wanted = 1 - torch.sigmoid(beta * (chosen - base_rejected))
    unwanted = 1 - torch.sigmoid(beta * (base_chosen - rejected))
    return (wanted + unwanted) / 2


def sppo_hard(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""SPPO with certain labels: :math:`(c - 1/(2\beta))^2 + (r + 1/(2\beta))^2`.

    Wu et al. 2024 (https://arxiv.org/abs/2405.00675), equation 4.7 with a winning probability of 1
    for the chosen answer and 0 for the rejected one; beta stands for one over their eta.
    """
    half = 1 / (2 * beta)
    return (chosen - half) ** 2 + (rejected + half) ** 2


def nca_pair(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""NCA: :math:`-\log\sigma(\beta c) - \frac12\log\sigma(-\beta c) - \frac12\log\sigma(-\beta r)`.

    Chen et al. 2024 (https://arxiv.org/abs/2402.05369), for two answers. It holds the chosen
    answer's probability up, where DPO looks at the difference alone.
    """
    first, second = beta * chosen, beta * rejected
    return -logsigmoid(first) - 0.5 * logsigmoid(-first) - 0.5 * logsigmoid(-second)


PAIR_LOSSES: Mapping[str, PairLoss] = MappingProxyType(
    {
        "sigmoid": sigmoid,
        "robust": robust,
        "hinge": hinge,
        "ipo": ipo,
        "kto_pair": kto_pair,
        "sppo_hard": sppo_hard,
        "nca_pair": nca_pair,
    }
)
"""By the names that XTuner and TRL have for them."""


def _at_least_zero(log_ratios: Tensor) -> Tensor:
    """The mean as an estimate of a divergence, which cannot be negative; zero for no pairs."""
    mean = log_ratios.detach().sum() / max(len(log_ratios), 1)
    return mean.clamp(min=0)
