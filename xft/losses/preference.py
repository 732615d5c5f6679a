r"""Losses of preference pairs.

Inputs are the log-ratios between model and reference model of the chosen and the rejected completion,
:math:`c = \log \pi(y_w|x) - \log \pi_\mathrm{ref}(y_w|x)` and
:math:`r = \log \pi(y_l|x) - \log \pi_\mathrm{ref}(y_l|x)`, each of shape ``(pairs,)``; without a reference model,
the log-probabilities themselves. Outputs have shape ``(pairs,)``. Formulas without ``label_smoothing`` ignore it; the
objectives reject it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

PairLoss = Callable[[Tensor, Tensor, float, float], Tensor]
"""``(chosen, rejected, beta, label_smoothing) -> (pairs,)``."""


def sigmoid(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""Compute the DPO loss :math:`-(1-\epsilon) \log \sigma(\beta(c-r)) - \epsilon \log \sigma(-\beta(c-r))`.

    Rafailov et al. 2023 (https://arxiv.org/abs/2305.18290), equation 7. With :math:`\epsilon` > 0 it is conservative
    DPO (Mitchell 2023, https://ericmitchell.ai/cdpo.pdf), which assumes this fraction of the labels to be swapped.
    """
    scaled = beta * (chosen - rejected)
    return -(1 - label_smoothing) * logsigmoid(scaled) - label_smoothing * logsigmoid(-scaled)


def robust(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""Compute the robust DPO loss, an unbiased estimate of the DPO loss without label noise.

    :math:`[-(1-\epsilon) \log \sigma(\beta(c-r)) + \epsilon \log \sigma(-\beta(c-r))] / (1-2\epsilon)`;
    Chowdhury et al. 2024 (https://arxiv.org/abs/2403.00409).
    """
    scaled = beta * (chosen - rejected)
    kept, flipped = -logsigmoid(scaled), -logsigmoid(-scaled)
    return ((1 - label_smoothing) * kept - label_smoothing * flipped) / (1 - 2 * label_smoothing)


def hinge(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""Compute the hinge loss :math:`\max(0, 1 - \beta(c-r))`.

    Calibration loss of SLiC (Zhao et al. 2023, https://arxiv.org/abs/2305.10425) on log-ratios, as in RSO (Liu et al.
    2023, https://arxiv.org/abs/2309.06657).
    """
    return relu(1 - beta * (chosen - rejected))


def ipo(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""Compute the IPO loss :math:`(c - r - 1/(2\beta))^2`.

    Azar et al. 2023 (https://arxiv.org/abs/2310.12036), equation 17, where beta is called tau. Meant for log-ratios
    divided by the length of the completion; otherwise the weight of a pair grows with the square of its lengths.
    """
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def kto_pair(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""Compute the KTO loss of pairs: half of :math:`[1 - \sigma(\beta(c - z_r))] + [1 - \sigma(\beta(z_c - r))]`.

    The KL baselines :math:`z_c` and :math:`z_r` are the means of :math:`c` and :math:`r` over the batch, at least zero
    and detached; each side is compared with the baseline of the other (Ethayarajh et al. 2024,
    https://arxiv.org/abs/2402.01306, first version). The loss of a pair depends on the other pairs of the batch.
    """
    baseline_chosen = _kl_baseline(chosen)
    baseline_rejected = _kl_baseline(rejected)
    chosen_losses = 1 - torch.sigmoid(beta * (chosen - baseline_rejected))
    rejected_losses = 1 - torch.sigmoid(beta * (baseline_chosen - rejected))
    return (chosen_losses + rejected_losses) / 2


def sppo_hard(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""Compute the SPPO loss with hard labels :math:`(c - 1/(2\beta))^2 + (r + 1/(2\beta))^2`.

    Wu et al. 2024 (https://arxiv.org/abs/2405.00675), equation 4.7 with a winning probability of 1 for the chosen and
    0 for the rejected completion; beta is 1 / eta of the paper.
    """
    half = 1 / (2 * beta)
    return (chosen - half) ** 2 + (rejected + half) ** 2


def nca_pair(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""Compute the NCA loss :math:`-\log\sigma(\beta c) - \frac12\log\sigma(-\beta c) - \frac12\log\sigma(-\beta r)`.

    Chen et al. 2024 (https://arxiv.org/abs/2402.05369), for two completions. Unlike DPO, which depends on the
    difference only, it prevents the probability of the chosen completion from falling.
    """
    scaled_chosen, scaled_rejected = beta * chosen, beta * rejected
    return (
        -logsigmoid(scaled_chosen) - 0.5 * logsigmoid(-scaled_chosen) - 0.5 * logsigmoid(-scaled_rejected)
    )


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
"""Pair losses by their name in TRL and XTuner."""


def _kl_baseline(log_ratios: Tensor) -> Tensor:
    """Estimate the KL divergence by the mean log-ratio, clamped to 0 or more; 0 without pairs."""
    mean = log_ratios.detach().sum() / max(len(log_ratios), 1)
    return mean.clamp(min=0)
