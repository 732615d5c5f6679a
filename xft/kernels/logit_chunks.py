"""What is asked of a chunk of logits: how probable the targets are, which come first, and the gradient.

Everything behind a head passes through here, some rows at a time, so that on a CPU the numbers in fp32 stay
in its cache; the gradient takes the place of the logits, and nothing else of their size is made.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from xft.kernels.shapes import MULTIPLE

CHUNK_LOGITS = {"cpu": 9_500_000, "cuda": 2**26}
"""Logits in a chunk, by device: enough rows that reading the head's weight once for them costs little, and on a
CPU few enough that they stay in its last cache between the two products."""
FP32_CHUNK_LOGITS = {"cpu": 2**19, "cuda": 2**26}
"""How many of them are in fp32 at a time."""
BLOCK = 256
"""Logits of a row whose largest is found in one go, on a CPU."""


def device_limit(limits: dict[str, int], device: torch.device) -> int:
    """The limit of a device; that of CUDA for any but a CPU."""
    return limits.get(device.type, limits["cuda"])


def rows_per_chunk(states: Tensor, targets: Tensor, weight: Tensor, chunk_logits: int | None) -> int:
    """Compute the number of tokens per chunk.

    Args:
        states: ``(tokens, hidden)``.
        targets: ``(tokens,)`` ids.
        weight: ``(vocabulary, hidden)`` of the head.
        chunk_logits: number of logits per chunk; ``None`` selects the default of the device.

    Raises:
        ValueError: there are not as many targets as states.
    """
    if states.ndim != 2 or states.shape[0] != targets.shape[0]:
        raise ValueError(f"got states {tuple(states.shape)} for targets {tuple(targets.shape)}")
    if chunk_logits is not None:
        return max(1, chunk_logits // len(weight))
    most = device_limit(CHUNK_LOGITS, states.device) / len(weight)
    return max(1, round(most / MULTIPLE)) * MULTIPLE


def pad_rows(states: Tensor, chunk_size: int) -> Tensor:
    """States with rows of zeros behind them, so that the last chunk is like one of a few.

    Args:
        states: ``(tokens, hidden)``.
        chunk_size: of tokens that go through a head at a time.
    """
    if states.device.type != "cpu" or chunk_size % MULTIPLE:
        return states
    return pad(states, (0, 0, 0, -len(states) % MULTIPLE))


def score_logits(
    logits: Tensor, targets: Tensor, with_grad: bool, grad_bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of targets, and how many of them are ranked first.

    Args:
        logits: ``(tokens, vocabulary)``; where a gradient is wanted, they are overwritten with that of the
            negative log-likelihood, ``softmax - onehot``. Those of rows without a target become 0.
        targets: ``(tokens,)`` ids.
        with_grad: whether it is wanted.
        grad_bias: ``(vocabulary,)``, to which the gradient is added up over tokens.

    Returns:
        ``(tokens,)`` in fp32 (fp64 for fp64), and a count.
    """
    wide_type = torch.promote_types(logits.dtype, torch.float32)
    size = max(1, device_limit(FP32_CHUNK_LOGITS, logits.device) // logits.shape[1])
    found = torch.empty(len(targets), dtype=wide_type, device=logits.device)
    correct = torch.zeros((), dtype=torch.long, device=logits.device)
    if with_grad:
        logits[len(targets) :] = 0
    for start in range(0, len(targets), size):
        wanted = targets[start : start + size, None]
        rows = logits[start : start + len(wanted)]
        wide = rows.to(wide_type)
        top, first = blocked_argmax(wide)
        probabilities = wide.softmax(dim=1)
        # The likeliest token has a share of 1 / vocabulary at least, so this logarithm is a safe one.
        normaliser = top - probabilities.gather(1, first).log_()
        found[start : start + size] = (wide.gather(1, wanted) - normaliser)[:, 0]
        correct += (first == wanted).sum()
        if with_grad:
            probabilities.scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=wide_type))
            rows.copy_(probabilities)
            if grad_bias is not None:
                grad_bias += probabilities.sum(dim=0)
    return found, correct


def blocked_argmax(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The largest number of each row, and the first place that it stands at, as ``argmax`` gives it.

    On a CPU, torch finds the largest of a row many times faster than where it stands: so the blocks of a
    row are compared by their largest, and only the first of the best blocks is searched.

    Args:
        rows: ``(rows, size)``.

    Returns:
        Twice ``(rows, 1)``.
    """
    size = rows.shape[1]
    if rows.device.type != "cpu" or size < 2 * BLOCK:
        found = rows.max(dim=1, keepdim=True)
        return found.values, found.indices
    whole = rows[:, : size // BLOCK * BLOCK].unflatten(1, (-1, BLOCK)).amax(dim=2)
    # The last block ends with the row, and shares some places with the one before it.
    best = torch.cat([whole, rows[:, -BLOCK:].amax(dim=1, keepdim=True)], dim=1).max(dim=1, keepdim=True)
    start = (best.indices * BLOCK).clamp_(max=size - BLOCK)
    places = start + torch.arange(BLOCK)
    return best.values, start + rows.gather(1, places).max(dim=1, keepdim=True).indices


def chunk_of_logits(states: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """The logits of some tokens, in the same memory for each chunk.

    Args:
        states: ``(tokens, hidden)``.
        weight: ``(vocabulary, hidden)``.
        bias: ``(vocabulary,)`` or ``None``.
        out: ``(at least tokens, vocabulary)``, overwritten.
    """
    logits = out[: len(states)]
    if bias is None:
        return torch.mm(states, weight.t(), out=logits)
    return torch.addmm(bias, states, weight.t(), out=logits)
