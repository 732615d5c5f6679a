"""The nouns that rooms exchange: message, conversation, sample, batch, loss output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IGNORE_INDEX = -100
"""The label of a token that is not trained (the default of torch's cross-entropy)."""

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

IntArray = npt.NDArray[np.int32]
Row = dict[str, Any]
"""One row of a data set as it was read: column name to value."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the assistant asks for.

    Attributes:
        name: of the function.
        arguments: by name; what JSON can hold.
        id: ties the call to its result, where the data has one.
    """

    name: str
    arguments: dict[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks. ``tool`` gives the result of a call.
        content: what is said. May be empty beside ``tool_calls``.
        trained: whether the model learns this turn. Only an assistant's turn can be.
        reasoning: what the assistant thinks before it says ``content``, without the marks
            (``<think>``) that a template puts around it.
        tool_calls: what the assistant asks for, behind ``content``.
        name: of the function that a ``tool`` turn is the result of, where the data says so.
    """

    role: Role
    content: str
    trained: bool = False
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""


Conversation = Sequence[Message]
Tools = Sequence[Mapping[str, Any]]
"""Descriptions of functions, each ``{"type": "function", "function": {"name": ..., "parameters":
<JSON schema>}}``."""


@dataclass(frozen=True, slots=True)
class Dialog:
    """A conversation, and the functions that the assistant may call in it."""

    messages: Conversation
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference: two ways to go on from the same prompt.

    Attributes:
        prompt: what both have in common; ends with a turn that asks for an answer.
        chosen: the better continuation; its first turn is the assistant's.
        rejected: the worse one.
        tools: as in :class:`Dialog`.
        scores: of the chosen and of the rejected answer, where the row has them; more is better.
    """

    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    tools: Tools = ()
    scores: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """One continuation with a label (KTO): wanted or not.

    Attributes:
        prompt: as in :class:`Pair`.
        answer: the continuation.
        desirable: whether the model shall learn it or shun it.
        tools: as in :class:`Dialog`.
    """

    prompt: Conversation
    answer: Conversation
    desirable: bool
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of rendered text, and whether its tokens are trained."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded training sample.

    Attributes:
        input_ids: ``(length,)`` token ids.
        labels: ``(length,)`` the same ids where trained, ``IGNORE_INDEX`` elsewhere. The
            label of a token stands at the token itself, not at the one before it.
        text: the text that was tokenised; empty where the sample was read from a store.
        desirable: of an answer with a single label (KTO), whether it is wanted.
    """

    input_ids: IntArray
    labels: IntArray
    text: str = ""
    desirable: bool | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def num_targets(self) -> int:
        """How many tokens are trained: labels that have a token before them."""
        return int((self.labels[1:] != IGNORE_INDEX).sum())


@dataclass(frozen=True, slots=True)
class SequenceGroup:
    """Ranks that share the tokens of each batch out: this one's number, how many, and torch's group of them."""

    rank: int
    size: int
    handle: Any


@dataclass(slots=True)
class Batch:
    """Samples laid out for one forward pass.

    Two layouts. *Flat*: ``batch`` is 1 and all samples stand one behind the other, without
    padding; ``segment_lengths`` says where each ends and attention never crosses that line.
    *Padded*: one sample a row, padded on the right, ``attention_mask`` says where;
    ``segment_lengths`` is empty.

    Attributes:
        input_ids: ``(batch, seq)``.
        labels: ``(batch, seq)``, ``IGNORE_INDEX`` where not trained, and always at the first
            token of a sample, which nothing predicts.
        position_ids: ``(batch, seq)``, restarting at 0 with each sample.
        attention_mask: ``(batch, seq)`` of 0 and 1, or ``None`` in the flat layout.
        segment_lengths: lengths of the samples in the flat layout.
        desirable: ``(samples,)`` of bool, whether each answer is wanted; ``None`` where the samples
            have no such label.
        digests: a number for each sample that stands for its ids and labels.
        sequence: the ranks that compute this batch together. Each has the whole of it, and lays its share of
            the tokens before the model.
        places: ``target_places``, known from the time that a batch goes to a device on, so that none is
            ever asked for what the host knows already.
        counts: ``sample_targets``, likewise.
    """

    input_ids: Tensor
    labels: Tensor
    position_ids: Tensor
    attention_mask: Tensor | None = None
    segment_lengths: list[int] = field(default_factory=list)
    desirable: Tensor | None = None
    digests: list[int] = field(default_factory=list)
    sequence: SequenceGroup | None = None
    places: Tensor | None = None
    counts: list[int] | None = None

    @property
    def num_targets(self) -> int:
        """How many tokens are trained."""
        return int((self.labels[:, 1:] != IGNORE_INDEX).sum())

    @property
    def num_tokens(self) -> int:
        """How many tokens are not padding."""
        if self.attention_mask is None:
            return self.input_ids.numel()
        return int(self.attention_mask.sum())

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(self.segment_lengths) or len(self.input_ids)

    @property
    def sample_targets(self) -> list[int]:
        """How many tokens of each sample are trained."""
        if self.counts is not None:
            return self.counts
        return torch.stack([(each != IGNORE_INDEX).sum() for each in self.split(self.labels)]).tolist()

    def split(self, tensor: Tensor) -> list[Tensor]:
        """Cut a tensor of shape ``(batch, seq)`` into a piece for each sample, padding left out."""
        if self.segment_lengths:
            return list(tensor[0].split(self.segment_lengths))
        if self.attention_mask is None:
            return list(tensor.unbind())
        lengths = self.attention_mask.sum(dim=1).tolist()
        return [row[:length] for row, length in zip(tensor, lengths, strict=True)]

    @property
    def target_places(self) -> Tensor:
        """``(targets,)``: where in the flattened batch the tokens stand whose next token is trained."""
        if self.places is not None:
            return self.places
        trained = self.labels != IGNORE_INDEX
        trained[:, 0] = False
        return trained.flatten().nonzero()[:, 0] - 1

    def pinned(self) -> "Batch":
        """The same in memory that a GPU reads by itself, while the host goes on."""
        return self._map(Tensor.pin_memory)

    def to(self, device: torch.device) -> "Batch":
        """Copy every tensor to ``device``; what the host may be asked for later is counted before."""
        if device == self.input_ids.device:
            return self
        return self._map(lambda each: each.to(device, non_blocking=True))

    def _map(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            input_ids=move(self.input_ids),
            labels=move(self.labels),
            position_ids=move(self.position_ids),
            attention_mask=None if self.attention_mask is None else move(self.attention_mask),
            desirable=None if self.desirable is None else move(self.desirable),
            places=move(self.target_places),
            counts=self.sample_targets,
        )


@dataclass(slots=True)
class LossOutput:
    """What an objective returns.

    Attributes:
        loss_sum: scalar, the loss summed (not averaged) over the targets: tokens, pairs or answers,
            as the objective has it.
        num_targets: how many targets were summed, as a number on the host.
        metrics: sums of further figures, detached. Their names are the same for every batch.
        weights: over how many things each metric was summed, by its name; ``num_targets`` where
            nothing is said.
    """

    loss_sum: Tensor
    num_targets: int
    metrics: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)


class Tokenizer(Protocol):
    """The part of a Hugging Face fast tokenizer that xft uses."""

    eos_token: str | None
    eos_token_id: int | None
    pad_token_id: int | None
    chat_template: Any
    all_special_tokens: list[str]

    def __call__(self, text: Any, **kwargs: Any) -> Any:
        """Tokenise ``text``."""

    def __len__(self) -> int: ...

    def decode(self, token_ids: Any, **kwargs: Any) -> Any:
        """Turn ids into text."""

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Render a conversation with the tokenizer's own template."""

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Look up tokens."""


Objective = Callable[[Any, Batch], LossOutput]
