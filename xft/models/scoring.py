"""Losses, log-probabilities and reward scores of batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from transformers import PreTrainedModel

from xft.distributed import all_reduce_sum
from xft.kernels import linear_cross_entropy, linear_log_probs
from xft.losses import cross_entropy_sum, sum_by_sample, token_log_probs
from xft.losses.log_probs import Head
from xft.models.activation_checkpointing import train_mode
from xft.models.forward_inputs import forward_inputs, local_target_counts, local_targets
from xft.models.model_options import model_options, transformers_config, without_adapter
from xft.models.param_shapes import is_sharded
from xft.types import Batch

MAX_LOGITS = 2**25
"""Number of logits held at a time when sequences are scored: 128 MB in fp32."""


def target_logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Compute the logits that predict the target tokens.

    Only positions whose next token is a target pass through the head.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        batch: flat or padded.

    Returns:
        ``(targets, vocabulary)`` logits in the dtype of the model, and ``(targets,)`` token ids.
    """
    positions, targets, _ = local_targets(batch)
    arguments = forward_inputs(model, batch)
    shape = arguments["position_ids"].shape[-2:]  # M-RoPE has a leading dimension
    mask = torch.zeros(shape, dtype=torch.bool, device=positions.device)
    mask.view(-1)[positions] = True
    logits: Tensor = model(**arguments, logits_to_keep=mask).logits
    if logits.ndim == 3:  # some models return all positions, or keep the batch dimension
        logits = logits[mask] if logits.shape[:2] == mask.shape else logits.flatten(0, 1)
    return logits, targets


def target_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, int]:
    """Compute the negative log-likelihood of the target tokens, over all ranks of the batch.

    If the logits are exactly the output of a linear head, head and loss are one operation, which never holds
    the logits of all tokens.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        batch: flat or padded.

    Returns:
        The summed loss, the number of targets that have the largest logit, and the number of targets.
    """
    halves = split_decoder_and_head(model, batch.input_ids) if model_options(model).fused_kernels else None
    weights = None if halves is None else _head_weights(halves[1])
    if halves is None or weights is None:
        logits, targets = target_logits(model, batch)
        correct = (logits.detach().argmax(dim=-1) == targets).sum() if len(targets) else targets.sum()
        loss = cross_entropy_sum(logits, targets)
    else:
        states, targets = _target_states(halves[0], model, batch)
        loss, correct = linear_cross_entropy(*_cast_to_common_dtype(states, targets, *weights))
    group = batch.sequence
    count = len(targets) if group is None else len(batch.target_positions)
    return all_reduce_sum(loss, group), all_reduce_sum(correct, group), count


@dataclass(frozen=True)
class SequenceLogProbs:
    """Log-probabilities of the answers of a batch.

    Attributes:
        log_probs: ``(samples,)``, summed log-probability of the target tokens, in fp32.
        counts: number of target tokens of each sample.
    """

    log_probs: Tensor
    counts: list[int]

    @property
    def lengths(self) -> Tensor:
        """Return ``(samples,)`` ``counts`` as divisors, at least 1."""
        counts = torch.tensor([max(1, count) for count in self.counts], dtype=self.log_probs.dtype)
        return counts.to(self.log_probs.device, non_blocking=True)


def sequence_log_probs(model: nn.Module, batch: Batch) -> SequenceLogProbs:
    """Compute the log-probability of the target tokens of each sample, over all ranks of the batch.

    The labels alone define the targets. Logits are computed for a few hundred tokens at a time (see
    :func:`~xft.kernels.linear_log_probs` and :func:`~xft.losses.token_log_probs`).

    Args:
        model: a causal language model of transformers, with or without an adapter.
        batch: flat or padded.
    """
    log_probs = target_log_probs(model, batch)
    sums = sum_by_sample(log_probs, local_target_counts(batch))
    return SequenceLogProbs(all_reduce_sum(sums, batch.sequence), batch.targets_per_sample)


def target_log_probs(model: nn.Module, batch: Batch, temperature: float = 1.0) -> Tensor:
    """Compute the log-probability of each target token of this rank's part of the batch.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        batch: flat or padded.
        temperature: divisor of the logits; log-probabilities of sampled tokens need that of the sampling.

    Returns:
        ``(targets,)`` in fp32 (fp64 for a model in fp64).
    """
    states, targets, head = head_inputs(model, batch)
    weights = _head_weights(head) if model_options(model).fused_kernels else None
    if weights is not None:
        states, targets, weight, bias = _cast_to_common_dtype(states, targets, *weights)
        if temperature != 1:
            states, bias = states / temperature, None if bias is None else bias / temperature
        return linear_log_probs(states, targets, weight, bias)
    scaled_head: Head = head if temperature == 1 else lambda states: head(states) / temperature
    chunk_size, min_chunks = head_chunks(model, head, targets)
    return token_log_probs(states, targets, scaled_head, chunk_size, min_chunks)


def head_inputs(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, nn.Module]:
    """Compute the states that predict the target tokens, before the head.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        batch: flat or padded.

    Returns:
        ``(targets, hidden)`` states, ``(targets,)`` token ids, and the head. If the logits are not the output of a
        linear head, the states are the logits and the head is the identity.
    """
    halves = split_decoder_and_head(model, batch.input_ids)
    if halves is None:
        return *target_logits(model, batch), nn.Identity()
    return *_target_states(halves[0], model, batch), halves[1]


def head_chunks(
    model: nn.Module, head: nn.Module, targets: Tensor, max_logits: int = MAX_LOGITS
) -> tuple[int, int]:
    """Return the number of targets whose logits are held at a time, and the number of chunks that all ranks need.

    Args:
        model: a causal language model of transformers.
        head: its head.
        targets: ``(targets,)`` ids of this rank.
        max_logits: number of logits held at a time.
    """
    chunk_size = max(1, max_logits // transformers_config(model).get_text_config().vocab_size)
    if not any(map(is_sharded, head.parameters())):
        return chunk_size, 1
    # Under ZeRO-3 each call of the head is an all-gather: ranks must call it equally often.
    max_targets = torch.tensor(len(targets), device=targets.device)
    distributed.all_reduce(max_targets, distributed.ReduceOp.MAX)
    return chunk_size, max(1, -(-int(max_targets) // chunk_size))


def reward_scores(model: nn.Module, batch: Batch) -> Tensor:
    """Compute the score of each sample at its last token.

    The layout of the batch, not a token id, defines the last token.

    Args:
        model: a reward model, with or without an adapter.
        batch: flat or padded.

    Returns:
        ``(samples,)`` in fp32.
    """
    base: Any = without_adapter(model)
    states = base.base_model(**forward_inputs(model, batch, full_sequence=True)).last_hidden_state.flatten(
        0, 1
    )
    positions = torch.arange(batch.input_ids.numel(), device=states.device).view_as(batch.input_ids)
    last = torch.stack([sample[-1] for sample in batch.split(positions)])
    if batch.sequence is None:
        scores: Tensor = base.score(states[last])[:, 0]
        return scores
    begin = batch.sequence.rank * len(states)
    local = ((last >= begin) & (last < begin + len(states))).nonzero()[:, 0]
    local_scores = base.score(states[last[local] - begin])[:, 0]
    all_scores = local_scores.new_zeros(len(last)).index_put((local,), local_scores)
    return all_reduce_sum(all_scores, batch.sequence)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Disable gradients and dropout; restore the mode of every module at the end."""
    with train_mode(model, training=False), torch.no_grad():
        yield


def _target_states(decoder: nn.Module, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return ``(targets, hidden)`` last states that predict the targets, and ``(targets,)`` token ids."""
    positions, targets, _ = local_targets(batch)
    states: Tensor = decoder(**forward_inputs(model, batch, full_sequence=True)).last_hidden_state
    return states.flatten(0, 1).index_select(0, positions), targets


def _head_weights(head: nn.Module) -> tuple[Tensor, Tensor | None] | None:
    """Return weight and bias of a plain linear head that is not sharded; ``None`` for any other head."""
    if type(head) is not nn.Linear or is_sharded(head.weight):
        return None
    return head.weight, head.bias


def _cast_to_common_dtype(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Cast the inputs of a head kernel to the dtype of autocast, or of the weight."""
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return states.to(dtype), targets, weight.to(dtype), None if bias is None else bias.to(dtype)


def split_decoder_and_head(model: nn.Module, input_ids: Tensor) -> tuple[nn.Module, nn.Module] | None:
    """Return decoder and head of a model with a linear head; ``None`` for any other model.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        input_ids: ``(batch, seq)`` of any text, with which the head is checked once.
    """
    options = model_options(model)
    if options.linear_head is None:
        options.linear_head = has_linear_head(without_adapter(model), input_ids[:1, :2])
    return _halves(without_adapter(model)) if options.linear_head else None


def has_linear_head(model: nn.Module, input_ids: Tensor) -> bool:
    """Check that the logits of a model are exactly the output of its head.

    Some architectures scale or cap their logits, and the list grows with each release of transformers. The
    check therefore compares both for a few tokens. The output of the head is enlarged for that: a cap leaves the bits of
    small logits, such as those of a new model, as they are.

    Args:
        model: of transformers, without its adapter.
        input_ids: ``(1, seq)``, a few ids on the device of the model.
    """
    halves = _halves(model)
    if halves is None:
        return False
    decoder, head = halves
    handle = head.register_forward_hook(lambda module, inputs, output: output * 256)
    try:
        with eval_mode(model):
            logits = model(input_ids=input_ids, use_cache=False).logits
            expected = head(decoder(input_ids=input_ids, use_cache=False).last_hidden_state)
    finally:
        handle.remove()
    return bool(expected.any()) and torch.equal(logits.float(), expected.float())


def _halves(model: nn.Module) -> tuple[nn.Module, nn.Module] | None:
    base: Any = model
    sees_images = model_options(model).processor is not None
    decoder = base.base_model if sees_images else base.get_decoder()
    head = base.get_output_embeddings()
    # ModernBERT calls its head ``decoder``.
    is_split = isinstance(decoder, PreTrainedModel) and decoder is not base and head is not None
    return (decoder, head) if is_split else None
