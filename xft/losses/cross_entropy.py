"""Cross-entropy of next tokens, summed."""

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy_sum(logits: Tensor, targets: Tensor, chunk_size: int = 512) -> Tensor:
    r"""The negative log-likelihood of the targets, summed: :math:`-\sum_i \log p_i(t_i)`.

    Taken in fp32, ``chunk_size`` positions at a time.

    Args:
        logits: ``(positions, vocabulary)``, of any floating type.
        targets: ``(positions,)`` token ids, none of them ignored.
        chunk_size: positions in a chunk.

    Returns:
        A scalar in fp32; zero, with a gradient of zeros, where there are no positions.
    """
    if logits.ndim != 2 or logits.shape[0] != targets.shape[0]:
        raise ValueError(f"got logits {tuple(logits.shape)} for targets {tuple(targets.shape)}")
    total = logits.sum() * 0.0 if len(targets) == 0 else torch.zeros((), device=logits.device)
    total = total.float()
    for start in range(0, len(targets), chunk_size):
        piece = slice(start, start + chunk_size)
        total = total + functional.cross_entropy(logits[piece].float(), targets[piece], reduction="sum")
    return total
