"""Log-probabilities of tokens and of whole answers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]
"""From hidden states ``(tokens, hidden)`` to logits ``(tokens, vocabulary)``."""


def token_log_probs(
    states: Tensor, targets: Tensor, head: Head, chunk_size: int = 512, least_chunks: int = 1
) -> Tensor:
    r"""The log-probability of each target: :math:`\log \mathrm{softmax}(\mathrm{head}(h_i))_{t_i}`.

    Logits are made for ``chunk_size`` tokens at a time and, where a gradient is wanted, made again
    in the backward pass: those of all tokens never exist at once. A single chunk is kept instead,
    for it costs no more memory than making it again.

    Args:
        states: ``(tokens, hidden)``, what the head takes; the logits themselves for the identity.
        targets: ``(tokens,)`` token ids, none of them ignored.
        head: gives logits.
        chunk_size: the most tokens in a chunk.
        least_chunks: the fewest chunks, though they be empty: ranks that put the head together for each
            must call it equally often.

    Returns:
        ``(tokens,)`` in fp32 (fp64 for a model in fp64); without targets it is empty, and its
        gradient is zero everywhere.
    """
    if states.ndim != 2 or states.shape[0] != targets.shape[0]:
        raise ValueError(f"got states {tuple(states.shape)} for targets {tuple(targets.shape)}")
    chunks = max(least_chunks, -(-len(targets) // chunk_size))
    if chunks == 1:
        return _log_probs(states, targets, head)
    pieces = zip(states.tensor_split(chunks), targets.tensor_split(chunks), strict=True)
    return torch.cat([_chunk(*each, head) for each in pieces])


def sum_by_sample(values: Tensor, counts: Sequence[int]) -> Tensor:
    """Add up the values of each sample.

    Args:
        values: ``(tokens,)``, sample behind sample.
        counts: how many of them each sample has; they add up to ``tokens``.

    Returns:
        ``(samples,)``; zero for a sample that has none.
    """
    # Split and not index_add, which on a GPU adds in another order each time.
    return torch.stack([each.sum() for each in values.split(list(counts))])


def _chunk(states: Tensor, targets: Tensor, head: Head) -> Tensor:
    if not torch.is_grad_enabled():
        return _log_probs(states, targets, head)
    found: Tensor = checkpoint(_log_probs, states, targets, head, use_reentrant=False)
    return found


def _log_probs(states: Tensor, targets: Tensor, head: Head) -> Tensor:
    logits = head(states)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    chosen = logits.gather(1, targets[:, None])[:, 0]
    return chosen - logits.logsumexp(dim=1)
