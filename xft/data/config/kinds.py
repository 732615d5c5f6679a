"""The kinds of datasets that a config may declare: conversations, raw text, pairs, labeled answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from xft.data.config.base import ChatData, DatasetConfig
from xft.data.encoding.encoders import (
    ConversationEncoder,
    DocumentEncoder,
    PreferenceEncoder,
    UnpairedEncoder,
)
from xft.data.encoding.row_encoder import RowEncoder
from xft.data.formats import alpaca, kto, preference, text
from xft.registry import register


@register("data", "instruction")
@dataclass
class InstructionData(ChatData):
    """Conversations. Only answers are targets.

    ``on_overlong='truncate'`` removes whole exchanges of a chat, the oldest first, then cuts the
    content of the longest turn. Headers and end-of-turn tokens stay.
    """

    format: Callable[..., Any] = alpaca
    encoder: ClassVar[type[RowEncoder[Any]]] = ConversationEncoder


@register("data", "text")
@dataclass
class TextData(DatasetConfig):
    """Raw text for continued pretraining. Every token is a target.

    Documents are separated by EOS and cut into chunks of ``max_length`` tokens without loss, so no
    document is too long.
    """

    format: Callable[..., Any] = text
    encoder: ClassVar[type[RowEncoder[Any]]] = DocumentEncoder
    uses_template: ClassVar[bool] = False


@register("data", "preference")
@dataclass
class PreferenceData(ChatData):
    """Pairs of a chosen and a rejected answer to the same prompt.

    ``max_length`` limits each of the two; a packed row holds whole pairs, and twice as many tokens.
    ``on_overlong='truncate'`` removes whole exchanges of the prompt, the oldest first, the same for
    both answers, and drops the pair if that is not enough. Answers are never cut: a shortened answer
    is not the one that was preferred.
    """

    format: Callable[..., Any] = preference
    encoder: ClassVar[type[RowEncoder[Any]]] = PreferenceEncoder
    samples_per_example: ClassVar[int] = 2
    sample_kind: ClassVar[str] = "pairs"


@register("data", "unpaired_preference")
@dataclass
class UnpairedPreferenceData(ChatData):
    """Answers with a label, desirable or not (KTO).

    A row that the format reads as a pair gives two examples: the chosen answer is desirable, the
    rejected one is not. Both stay in the same split. ``on_overlong`` is as in :class:`PreferenceData`.
    """

    format: Callable[..., Any] = kto
    encoder: ClassVar[type[RowEncoder[Any]]] = UnpairedEncoder
    sample_kind: ClassVar[str] = "labelled answers"
