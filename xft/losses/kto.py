"""The loss of single answers that are wanted or not."""

import torch
from torch import Tensor


def kto(log_ratios: Tensor, desirable: Tensor, base: Tensor | float, beta: float) -> Tensor:
    r"""KTO: :math:`1 - \sigma(\beta(\rho - z))` of a wanted answer, :math:`1 - \sigma(\beta(z - \rho))` of another.

    Ethayarajh, Xu, Muennighoff, Jurafsky and Kiela 2024 (https://arxiv.org/abs/2402.01306), with a
    weight of one.

    Args:
        log_ratios: ``(answers,)`` :math:`\rho = \log\pi(y|x) - \log\pi_\mathrm{ref}(y|x)`.
        desirable: ``(answers,)`` of bool.
        base: :math:`z`, the divergence of the model from the reference that answers are measured
            against; no gradient is taken through it.
        beta: how soon more of the same counts no more.

    Returns:
        ``(answers,)``.
    """
    away = log_ratios - (base.detach() if isinstance(base, Tensor) else base)
    return 1 - torch.sigmoid(beta * torch.where(desirable, away, -away))
