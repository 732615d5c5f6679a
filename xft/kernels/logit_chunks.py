"""Chunks of logits: log-probabilities of targets, largest logits, gradients.

All kernels of a linear head compute logits chunk by chunk in one buffer, and their gradient overwrites them. Within a
chunk a few rows at a time are converted to fp32, so that they stay in the cache of a CPU.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from xft.kernels.shapes import MULTIPLE

CHUNK_LOGITS = {"cpu": 9_500_000, "cuda": 2**26}
"""Number of logits per chunk, by device: enough rows to amortize reading the weight of the head and, on a CPU, few
enough for the logits to stay in the last-level cache between the two products."""
FP32_CHUNK_LOGITS = {"cpu": 2**19, "cuda": 2**26}
"""Number of logits converted to fp32 at a time, by device."""
ARGMAX_BLOCK = 256
"""Number of logits per block of :func:`blocked_argmax`."""


def device_limit(limits: dict[str, int], device: torch.device) -> int:
    """Return the limit of a device; devices other than CPUs have that of CUDA."""
    return limits.get(device.type, limits["cuda"])


def rows_per_chunk(states: Tensor, targets: Tensor, weight: Tensor, chunk_logits: int | None) -> int:
    """Compute the number of tokens per chunk.

    Args:
        states: ``(tokens, hidden)``.
        targets: ``(tokens,)`` token ids.
        weight: ``(vocabulary, hidden)`` of the head.
        chunk_logits: number of logits per chunk; ``None`` selects the default of the device.

    Raises:
        ValueError: the numbers of states and targets differ.
    """
    if states.ndim != 2 or states.shape[0] != targets.shape[0]:
        raise ValueError(f"got states {tuple(states.shape)} for targets {tuple(targets.shape)}")
    if chunk_logits is not None:
        return max(1, chunk_logits // len(weight))
    rows = device_limit(CHUNK_LOGITS, states.device) / len(weight)
    return max(1, round(rows / MULTIPLE)) * MULTIPLE


def pad_rows(states: Tensor, chunk_size: int) -> Tensor:
    """Append rows of zeros on a CPU, so that the last chunk has one of a few shapes.

    Args:
        states: ``(tokens, hidden)``.
        chunk_size: number of tokens per chunk.

    Returns:
        ``(padded tokens, hidden)``, see :data:`~xft.kernels.shapes.MULTIPLE`.
    """
    if states.device.type != "cpu" or chunk_size % MULTIPLE:
        return states
    return pad(states, (0, 0, 0, -len(states) % MULTIPLE))


def iter_logits(
    states: Tensor, weight: Tensor, bias: Tensor | None, chunk_size: int
) -> Iterator[tuple[slice, Tensor]]:
    """Compute logits chunk by chunk; all chunks share one buffer.

    Args:
        states: ``(tokens, hidden)`` inputs of the head.
        weight: ``(vocabulary, hidden)``.
        bias: ``(vocabulary,)`` or ``None``.
        chunk_size: number of tokens per chunk.

    Yields:
        The tokens of a chunk and their logits ``(chunk, vocabulary)``, valid until the next chunk.
    """
    buffer = states.new_empty(min(chunk_size, len(states)), len(weight))
    for start in range(0, len(states), chunk_size):
        chunk = slice(start, start + chunk_size)
        rows = states[chunk]
        out = buffer[: len(rows)]
        if bias is None:
            yield chunk, torch.mm(rows, weight.t(), out=out)
        else:
            yield chunk, torch.addmm(bias, rows, weight.t(), out=out)


class HeadGradients:
    """Gradients of a linear head and its inputs, accumulated over chunks of tokens.

    Args:
        states: ``(tokens, hidden)`` inputs of the head.
        weight: ``(vocabulary, hidden)``.
        bias: ``(vocabulary,)`` or ``None``.
        needs: whether to compute the gradients of states, weight and bias.

    Attributes:
        is_needed: whether any gradient is computed.
        states: ``(tokens, hidden)`` in the type of the states, or ``None``.
        weight: ``(vocabulary, hidden)`` in fp32 (fp64 for fp64), or ``None``.
        bias: ``(vocabulary,)`` in fp32 (fp64 for fp64), or ``None``. The caller adds to it: the kernels sum the
            gradient of the bias from different tensors.
    """

    def __init__(
        self, states: Tensor, weight: Tensor, bias: Tensor | None, needs: tuple[bool, bool, bool]
    ) -> None:
        wide = torch.promote_types(states.dtype, torch.float32)
        self.is_needed = any(needs)
        self.states = torch.empty_like(states) if needs[0] else None
        self.weight = torch.zeros_like(weight, dtype=wide) if needs[1] else None
        self.bias = torch.zeros_like(bias, dtype=wide) if bias is not None and needs[2] else None

    def add(self, chunk: slice, grad_logits: Tensor, states: Tensor, weight: Tensor) -> None:
        """Add the gradients of states and weight of a chunk, given the gradient of its logits."""
        if self.states is not None:
            torch.mm(grad_logits, weight, out=self.states[chunk])
        if self.weight is not None:
            self.weight += grad_logits.t() @ states[chunk]


def score_logits(
    logits: Tensor, targets: Tensor, with_grad: bool, grad_bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Compute log-probabilities of targets and the number of targets with the largest logit.

    Args:
        logits: ``(tokens, vocabulary)``. ``with_grad`` overwrites them with the gradient of the negative
            log-likelihood, ``softmax - onehot``; rows without a target become 0.
        targets: ``(tokens,)`` token ids.
        with_grad: compute the gradient.
        grad_bias: ``(vocabulary,)``, to which the gradient summed over tokens is added.

    Returns:
        ``(tokens,)`` in fp32 (fp64 for fp64), and a count.
    """
    wide_type = torch.promote_types(logits.dtype, torch.float32)
    size = max(1, device_limit(FP32_CHUNK_LOGITS, logits.device) // logits.shape[1])
    log_probs = torch.empty(len(targets), dtype=wide_type, device=logits.device)
    correct = torch.zeros((), dtype=torch.long, device=logits.device)
    if with_grad:
        logits[len(targets) :] = 0
    for start in range(0, len(targets), size):
        row_targets = targets[start : start + size, None]
        rows = logits[start : start + len(row_targets)]
        wide = rows.to(wide_type)
        largest, argmax = blocked_argmax(wide)
        probs = wide.softmax(dim=1)
        # The largest probability is at least 1 / vocabulary, so its logarithm is finite.
        normalizer = largest - probs.gather(1, argmax).log_()
        log_probs[start : start + size] = (wide.gather(1, row_targets) - normalizer)[:, 0]
        correct += (argmax == row_targets).sum()
        if with_grad:
            probs.scatter_add_(1, row_targets, -torch.ones_like(row_targets, dtype=wide_type))
            rows.copy_(probs)
            if grad_bias is not None:
                grad_bias += probs.sum(dim=0)
    return log_probs, correct


def iter_scores(
    states: Tensor,
    targets: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    chunk_size: int,
    gradients: HeadGradients,
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Score targets chunk by chunk, and add the gradients of the summed negative log-likelihood to ``gradients``.

    Args:
        states: ``(tokens, hidden)`` inputs of the head, possibly with rows of padding.
        targets: ``(tokens,)`` token ids.
        weight: ``(vocabulary, hidden)``.
        bias: ``(vocabulary,)`` or ``None``.
        chunk_size: number of tokens per chunk.
        gradients: of the head and its inputs.

    Yields:
        The tokens of a chunk, and the result of :func:`score_logits`.
    """
    for chunk, logits in iter_logits(states, weight, bias, chunk_size):
        log_probs, num_correct = score_logits(logits, targets[chunk], gradients.is_needed, gradients.bias)
        gradients.add(chunk, logits, states, weight)
        yield chunk, log_probs, num_correct


def blocked_argmax(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the maximum of each row and its first index, the one that ``argmax`` returns.

    Measured on a CPU: torch computes a maximum many times faster than its index. The maxima of blocks are compared
    first, and only the first block with the largest one is searched for the index.

    Args:
        rows: ``(rows, size)``.

    Returns:
        Maxima and indices, each ``(rows, 1)``.
    """
    size = rows.shape[1]
    if rows.device.type != "cpu" or size < 2 * ARGMAX_BLOCK:
        result = rows.max(dim=1, keepdim=True)
        return result.values, result.indices
    maxima = rows[:, : size // ARGMAX_BLOCK * ARGMAX_BLOCK].unflatten(1, (-1, ARGMAX_BLOCK)).amax(dim=2)
    # The last block ends with the row and overlaps with the block before it.
    last = rows[:, -ARGMAX_BLOCK:].amax(dim=1, keepdim=True)
    best = torch.cat([maxima, last], dim=1).max(dim=1, keepdim=True)
    start = (best.indices * ARGMAX_BLOCK).clamp_(max=size - ARGMAX_BLOCK)
    indices = start + torch.arange(ARGMAX_BLOCK)
    return best.values, start + rows.gather(1, indices).max(dim=1, keepdim=True).indices
