"""Summed cross-entropy of next tokens."""

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy_sum(logits: Tensor, targets: Tensor, chunk_size: int = 512) -> Tensor:
    r"""Compute the summed negative log-likelihood of targets: :math:`-\sum_i \log p_i(t_i)`.

    Computed in fp32 for ``chunk_size`` positions at a time, which bounds the memory of the fp32 copy.

    Args:
        logits: ``(positions, vocabulary)``, of any floating-point type.
        targets: ``(positions,)`` token ids without ``ignore_index``.
        chunk_size: number of positions per chunk.

    Returns:
        A scalar in fp32; without positions it is zero and has a zero gradient.

    Raises:
        ValueError: the numbers of logits and targets differ.
    """
    if logits.ndim != 2 or logits.shape[0] != targets.shape[0]:
        raise ValueError(f"got logits {tuple(logits.shape)} for targets {tuple(targets.shape)}")
    total = logits.sum() * 0.0 if len(targets) == 0 else torch.zeros((), device=logits.device)
    total = total.float()
    for start in range(0, len(targets), chunk_size):
        chunk = slice(start, start + chunk_size)
        total = total + functional.cross_entropy(logits[chunk].float(), targets[chunk], reduction="sum")
    return total
