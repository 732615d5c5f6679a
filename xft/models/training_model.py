"""The module that the runner trains: a model and the objective that it is trained with."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, distributed, nn

from xft.distributed import all_reduce_sum
from xft.kernels import head_cross_entropy, head_log_probs
from xft.losses import cross_entropy_sum, sum_by_sample, token_log_probs
from xft.models.activation_checkpointing import in_mode
from xft.models.forward_inputs import model_inputs, own_counts, own_targets, predictions, uses_kernels
from xft.types import Batch, LossOutput, Objective

MOST_LOGITS = 2**25
"""How many logits are made at a time where sequences are scored: 128 MB in fp32."""


class TrainingModel(nn.Module):
    """A model behind an objective: ``forward(batch)`` gives the loss.

    It is one module so that whatever wraps modules (DDP, DeepSpeed) wraps the whole of it.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> LossOutput:
        """The loss of a batch, summed over its targets."""
        return self.objective(self.model, batch)


def unwrap(model: nn.Module) -> TrainingModel:
    """Return the :class:`TrainingModel` inside the modules that wrap it, such as DDP's."""
    inner: Any = model
    while not isinstance(inner, TrainingModel):
        inner = inner.module
    return inner


def target_logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The logits that predict trained tokens, and those tokens.

    Only positions whose next token is trained go through the head.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        batch: flat or padded.

    Returns:
        ``(targets, vocabulary)`` logits in the model's type, and ``(targets,)`` token ids.
    """
    keep, targets = predictions(batch)
    logits: Tensor = model(**model_inputs(model, batch), logits_to_keep=keep).logits
    if logits.ndim == 3:  # a model that keeps all positions, or keeps the batch dimension
        logits = logits[keep] if logits.shape[:2] == keep.shape else logits.flatten(0, 1)
    return logits, targets


def target_loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, int]:
    """The negative log-likelihood of the trained tokens, of all ranks that compute the batch together.

    The head and the loss are one operation that never holds the logits of all tokens, where the head
    is a plain linear layer and the model's logits are what it makes.

    Args:
        model: a causal language model of transformers, with or without an adapter.
        batch: flat or padded.

    Returns:
        The loss summed, how many trained tokens the model ranks first, and how many there are.
    """
    parts = _decoder_and_head(model, batch) if uses_kernels(model) else None
    weights = None if parts is None else _head_weights(parts[1])
    if parts is None or weights is None:
        logits, targets = target_logits(model, batch)
        correct = (logits.detach().argmax(dim=-1) == targets).sum() if len(targets) else targets.sum()
        loss = cross_entropy_sum(logits, targets)
    else:
        states, targets = _target_states(parts[0], model, batch)
        loss, correct = head_cross_entropy(*_in_one_type(states, targets, *weights))
    group = batch.sequence
    count = len(targets) if group is None else len(batch.target_positions)
    return all_reduce_sum(loss, group), all_reduce_sum(correct, group), count


@dataclass(frozen=True)
class Scores:
    """How probable a model finds the answers of a batch.

    Attributes:
        log_probs: ``(samples,)``, the log-probabilities of the trained tokens added up, in fp32.
        counts: how many tokens of each sample are trained.
    """

    log_probs: Tensor
    counts: list[int]

    @property
    def lengths(self) -> Tensor:
        """``(samples,)``: ``counts`` as numbers to divide by, at least 1."""
        counts = torch.tensor([max(1, each) for each in self.counts], dtype=self.log_probs.dtype)
        return counts.to(self.log_probs.device, non_blocking=True)


def score(model: nn.Module, batch: Batch) -> Scores:
    """The log-probability of the trained tokens of each sample, on all ranks that compute the batch together.

    What is trained is said by the labels and by nothing else. Logits are made for a few hundred
    tokens at a time (see :func:`~xft.kernels.head_log_probs` and :func:`~xft.losses.token_log_probs`).

    Args:
        model: a causal language model of transformers, with or without an adapter.
        batch: flat or padded.
    """
    counts = batch.targets_per_sample
    own = _target_log_probs(model, batch)
    return Scores(all_reduce_sum(sum_by_sample(own, own_counts(batch, len(own))), batch.sequence), counts)


def _target_log_probs(model: nn.Module, batch: Batch) -> Tensor:
    """``(targets,)``, of every trained token."""
    parts = _decoder_and_head(model, batch)
    if parts is None:
        states, targets = target_logits(model, batch)
        head: nn.Module = nn.Identity()
    else:
        decoder, head = parts
        states, targets = _target_states(decoder, model, batch)
        weights = _head_weights(head) if uses_kernels(model) else None
        if weights is not None:
            return head_log_probs(*_in_one_type(states, targets, *weights))
    config: Any = model.config
    chunk_size = max(1, MOST_LOGITS // config.get_text_config().vocab_size)
    least = 1
    if any(hasattr(each, "ds_id") for each in head.parameters()):
        # Ranks that share the head out gather it together, and so must call it equally often.
        most = torch.tensor(len(targets), device=targets.device)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        least = -(-int(most) // chunk_size)
    return token_log_probs(states, targets, head, chunk_size, max(1, least))


def rate(model: nn.Module, batch: Batch) -> Tensor:
    """The score of each sample, read at its last token.

    Where that stands is said by the layout of the batch, never by an id.

    Args:
        model: a reward model, with or without an adapter.
        batch: flat or padded.

    Returns:
        ``(samples,)`` in fp32.
    """
    below: Any = model
    base: Any = below.get_base_model() if hasattr(below, "get_base_model") else below
    decoder = getattr(base, base.base_model_prefix)
    states = decoder(**model_inputs(model, batch, whole=True)).last_hidden_state.flatten(0, 1)
    places = torch.arange(batch.input_ids.numel(), device=states.device).view_as(batch.input_ids)
    last = torch.stack([each[-1] for each in batch.split(places)])
    if batch.sequence is None:
        scores: Tensor = base.score(states[last])[:, 0]
        return scores
    begin = batch.sequence.rank * len(states)
    here = ((last >= begin) & (last < begin + len(states))).nonzero()[:, 0]
    own = base.score(states[last[here] - begin])[:, 0]
    return all_reduce_sum(own.new_zeros(len(last)).index_put((here,), own), batch.sequence)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without gradients and without dropout; afterwards every module is as it was."""
    with in_mode(model, training=False), torch.no_grad():
        yield


def _target_states(decoder: nn.Module, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The last states that predict trained tokens, ``(targets, hidden)``, and those tokens."""
    places, targets, _ = own_targets(batch)
    states: Tensor = decoder(**model_inputs(model, batch, whole=True)).last_hidden_state
    return states.flatten(0, 1).index_select(0, places), targets


def _head_weights(head: nn.Module) -> tuple[Tensor, Tensor | None] | None:
    """Weight and bias of a head that is all in them, where they are whole on this rank."""
    if type(head) is not nn.Linear or any(hasattr(head.weight, mark) for mark in ("ds_id", "device_mesh")):
        return None
    return head.weight, head.bias


def _in_one_type(
    states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """What a kernel of the head takes: all in the type that products are taken in."""
    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    return states.to(dtype), targets, weight.to(dtype), None if bias is None else bias.to(dtype)


_PLAIN: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Of which models it is known whether their logits are what the head makes of the last states."""


def _decoder_and_head(model: nn.Module, batch: Batch) -> tuple[nn.Module, nn.Module] | None:
    """The two halves of a model; ``None`` where there is more to its logits.

    Some architectures scale their logits or cap them. Which ones changes with every release of
    transformers, so each model is asked once, with two tokens.
    """
    below: Any = model
    base: Any = below.get_base_model() if hasattr(below, "get_base_model") else below
    decoder, head = base.get_decoder(), base.get_output_embeddings()
    if decoder is None or decoder is base or head is None:
        return None
    if base not in _PLAIN:
        ids = batch.input_ids[:1, :2]
        with evaluating(base):
            whole = base(input_ids=ids, use_cache=False).logits
            halves = head(decoder(input_ids=ids, use_cache=False).last_hidden_state)
        _PLAIN[base] = torch.equal(whole.float(), halves.float())
    return (decoder, head) if _PLAIN[base] else None
