"""Log-probabilities of tokens and of completions."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]
"""Maps hidden states ``(tokens, hidden)`` to logits ``(tokens, vocabulary)``."""


def token_log_probs(
    states: Tensor, targets: Tensor, head: Head, chunk_size: int = 512, min_chunks: int = 1
) -> Tensor:
    r"""Compute the log-probability of each target: :math:`\log \mathrm{softmax}(\mathrm{head}(h_i))_{t_i}`.

    Logits are computed for ``chunk_size`` tokens at a time and recomputed in the backward pass, so the logits of all
    tokens never exist at the same time. A single chunk is stored instead: recomputing it would not save memory.

    Args:
        states: ``(tokens, hidden)`` inputs of the head; the logits themselves if ``head`` is the identity.
        targets: ``(tokens,)`` token ids without ``ignore_index``.
        head: computes logits.
        chunk_size: maximum number of tokens per chunk.
        min_chunks: minimum number of chunks, possibly empty ones. Ranks that all-gather the head in each chunk must
            call it equally often.

    Returns:
        ``(tokens,)`` in fp32 (fp64 for a model in fp64); without targets it is empty and has a zero gradient.

    Raises:
        ValueError: the numbers of states and targets differ.
    """
    if states.ndim != 2 or states.shape[0] != targets.shape[0]:
        raise ValueError(f"got states {tuple(states.shape)} for targets {tuple(targets.shape)}")
    return map_chunks(partial(_log_probs, head=head), (states, targets), chunk_size, min_chunks)


def map_chunks(
    function: Callable[..., Tensor], tensors: Sequence[Tensor], chunk_size: int, min_chunks: int = 1
) -> Tensor:
    """Apply a function to chunks of tokens, and recompute it in the backward pass; a single chunk is not recomputed.

    Args:
        function: maps a chunk of each tensor to ``(chunk,)`` values.
        tensors: ``(tokens, …)``, equally many tokens.
        chunk_size, min_chunks: as in :func:`token_log_probs`.

    Returns:
        ``(tokens,)``.
    """
    num_chunks = max(min_chunks, -(-len(tensors[0]) // chunk_size))
    if num_chunks == 1:
        return function(*tensors)
    chunks = zip(*(tensor.tensor_split(num_chunks) for tensor in tensors), strict=True)
    return torch.cat([_checkpointed(function, chunk) for chunk in chunks])


def sum_by_sample(values: Tensor, counts: Sequence[int]) -> Tensor:
    """Sum the values of each sample.

    Args:
        values: ``(tokens,)``, concatenated over samples.
        counts: number of values of each sample; they sum to ``tokens``.

    Returns:
        ``(samples,)``; zero for a sample without values.
    """
    # Split instead of index_add, whose order of additions varies between runs on a GPU.
    return torch.stack([sample.sum() for sample in values.split(list(counts))])


def _checkpointed(function: Callable[..., Tensor], chunk: Sequence[Tensor]) -> Tensor:
    if not torch.is_grad_enabled():
        return function(*chunk)
    result: Tensor = checkpoint(function, *chunk, use_reentrant=False)
    return result


def _log_probs(states: Tensor, targets: Tensor, head: Head) -> Tensor:
    logits = head(states)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    chosen = logits.gather(1, targets[:, None])[:, 0]
    return chosen - logits.logsumexp(dim=1)
