"""Loss of KTO, for completions with a binary label."""

import torch
from torch import Tensor


def kto(log_ratios: Tensor, desirable: Tensor, kl_baseline: Tensor | float, beta: float) -> Tensor:
    r"""Compute the KTO loss of completions.

    :math:`1 - \sigma(\beta(\rho - z))` for a desirable completion, :math:`1 - \sigma(\beta(z - \rho))` for an
    undesirable one: Ethayarajh et al. 2024 (https://arxiv.org/abs/2402.01306) with weights
    :math:`\lambda_D = \lambda_U = 1`.

    Args:
        log_ratios: ``(completions,)`` :math:`\rho = \log\pi(y|x) - \log\pi_\mathrm{ref}(y|x)`.
        desirable: ``(completions,)`` of bool.
        kl_baseline: :math:`z`, estimate of the KL divergence between model and reference model; detached.
        beta: strength of the KL penalty toward the reference model; larger values saturate the loss sooner.

    Returns:
        ``(completions,)``.
    """
    advantages = log_ratios - (kl_baseline.detach() if isinstance(kl_baseline, Tensor) else kl_baseline)
    return 1 - torch.sigmoid(beta * torch.where(desirable, advantages, -advantages))
