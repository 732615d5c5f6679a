"""Rows, messages, conversations and preferences, before tokenization."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from xft.types.image import Image

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")

Row = dict[str, Any]
"""One row of a data set as read from the source: column name to value."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Function call requested by the assistant.

    Attributes:
        name: name of the function.
        arguments: JSON-compatible arguments by name.
        id: identifier that links the call to its result; empty if the data has none.
    """

    name: str
    arguments: dict[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: speaker. A ``tool`` message holds the result of a call.
        content: text of the turn, with an ``IMAGE_PLACE`` for each of its images. May be empty if there are
            ``tool_calls``.
        is_target: whether the tokens of this turn are in the loss. Only an assistant turn can be a target.
        reasoning: reasoning of the assistant before ``content``, without the marks (``<think>``) that a
            template adds.
        tool_calls: function calls of the assistant, rendered after ``content``.
        name: name of the speaker, or function whose result a ``tool`` turn holds; empty if the data has none.
        tool_call_id: identifier of the call whose result a ``tool`` turn holds; empty if the data has none.
        images: images of the turn, in the order of their places in ``content``.
        source: the turn as the row has it, for the template.
    """

    role: Role
    content: str
    is_target: bool = False
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    tool_call_id: str = ""
    images: tuple[Image, ...] = ()
    source: "SourceTurn | None" = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SourceTurn:
    """A turn of a row in the schema of OpenAI, with all keys: a template may read any of them.

    Attributes:
        fields: keys and values of the turn.
        parsed: message that the fields were parsed to. A message that differs was changed after parsing.
    """

    fields: Mapping[str, Any]
    parsed: Message


Messages = Sequence[Message]
Tools = Sequence[Mapping[str, Any]]
"""Function descriptions, each ``{"type": "function", "function": {"name": ..., "parameters": <JSON schema>}}``."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and the functions that the assistant may call.

    Attributes:
        messages: turns in order.
        tools: function descriptions.
        template_kwargs: variables of the chat template, such as ``documents`` and ``enable_thinking``.
    """

    messages: Messages
    tools: Tools = ()
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two completions of one prompt, one preferred over the other.

    Attributes:
        prompt: common turns; the last one asks for an answer.
        chosen: preferred completion; its first turn is an assistant turn.
        rejected: the other completion.
        tools: as in :class:`Conversation`.
        scores: scores of the chosen and of the rejected completion, if the row has them; higher is better.
    """

    prompt: Messages
    chosen: Messages
    rejected: Messages
    tools: Tools = ()
    scores: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class UnpairedExample:
    """One completion with a binary label, as KTO uses it.

    Attributes:
        prompt: as in :class:`PreferencePair`.
        answer: completion.
        label: True for a desirable completion, False for an undesirable one.
        tools: as in :class:`Conversation`.
    """

    prompt: Messages
    answer: Messages
    label: bool
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """Piece of rendered text.

    Attributes:
        text: rendered text.
        is_target: whether the tokens of the text are in the loss.
    """

    text: str
    is_target: bool


class Tokenizer(Protocol):
    """Subset of the interface of Hugging Face fast tokenizers that xft uses."""

    is_fast: bool
    backend_tokenizer: Any
    bos_token: str | None
    bos_token_id: int | None
    eos_token: str | None
    eos_token_id: int | None
    pad_token: str | None
    pad_token_id: int | None
    unk_token: str | None
    unk_token_id: int | None
    chat_template: object
    all_special_tokens: list[str]
    special_tokens_map: Mapping[str, Any]
    added_tokens_decoder: Mapping[int, Any]

    def __call__(self, text: object, **kwargs: object) -> Any:
        """Tokenize ``text``."""

    def __len__(self) -> int: ...

    def decode(self, token_ids: object, **kwargs: object) -> Any:
        """Convert token ids to text."""

    def apply_chat_template(self, conversation: object, **kwargs: object) -> Any:
        """Render a conversation with the template of the tokenizer."""

    def convert_tokens_to_ids(self, tokens: object) -> Any:
        """Convert tokens to ids."""
