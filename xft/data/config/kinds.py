"""The data sets that a config may declare: conversations, raw text, pairs, single labels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

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
from xft.templates import BoundTemplate
from xft.types import Tokenizer


@register("data", "instruction")
@dataclass
class InstructionData(ChatData):
    """Rows of questions and answers. Only answers are trained.

    Args:
        on_overlong: what becomes of a longer conversation: ``drop`` it; ``truncate`` it: whole
            exchanges of a chat, the oldest first, then the content of the longest turn, never a
            header or an end-of-turn token; or stop with an ``error``.
    """

    format: Callable[..., Any] = alpaca
    on_overlong: Literal["drop", "truncate", "error"] = field(default="drop", kw_only=True)

    def task(self, tokenizer: Tokenizer, template: BoundTemplate | None) -> RowEncoder[Any]:
        """Conversations are rendered and encoded."""
        return ConversationEncoder(
            self.format,
            template,
            tokenizer,
            self.max_length,
            self.on_overlong,
            self.on_invalid,
            self.group_by,
        )


@register("data", "text")
@dataclass
class TextData(DatasetConfig):
    """Raw text for continued pretraining. Every token is trained.

    Documents are separated by EOS and cut into chunks of ``max_length`` without loss; a document
    is never too long.
    """

    format: Callable[..., Any] = text
    uses_template: ClassVar[bool] = False

    def task(self, tokenizer: Tokenizer, template: BoundTemplate | None) -> RowEncoder[Any]:
        """Documents are cut into chunks."""
        return DocumentEncoder(
            self.format,
            None,
            tokenizer,
            self.max_length,
            on_invalid=self.on_invalid,
            group_by=self.group_by,
        )


@register("data", "preference")
@dataclass
class PreferenceData(ChatData):
    """Pairs of a chosen and a rejected answer to the same prompt.

    ``max_length`` holds for each of the two; a packed row holds whole pairs, and twice as much.

    Args:
        on_overlong: what becomes of a pair that is longer with either answer: ``drop`` it;
            ``truncate`` its prompt: whole exchanges, the oldest first, the same for both answers, or
            drop it where that is not enough; or stop with an ``error``. An answer is never cut: a
            shortened one is not the one that was preferred.
    """

    format: Callable[..., Any] = preference
    on_overlong: Literal["drop", "truncate", "error"] = field(default="drop", kw_only=True)
    samples_per_example: ClassVar[int] = 2
    sample_kind: ClassVar[str] = "pairs"

    def task(self, tokenizer: Tokenizer, template: BoundTemplate | None) -> RowEncoder[Any]:
        """Both answers are encoded behind the prompt."""
        return PreferenceEncoder(
            self.format,
            template,
            tokenizer,
            self.max_length,
            self.on_overlong,
            self.on_invalid,
            self.group_by,
        )


@register("data", "unpaired_preference")
@dataclass
class UnpairedPreferenceData(ChatData):
    """Answers with a single label, wanted or not (KTO).

    A row that the format reads as a pair is two of them: the chosen answer is wanted, the rejected one
    is not. Both stay in the same split.

    Args:
        on_overlong: as in :class:`PreferenceData`.
    """

    format: Callable[..., Any] = kto
    on_overlong: Literal["drop", "truncate", "error"] = field(default="drop", kw_only=True)
    sample_kind: ClassVar[str] = "labelled answers"

    def task(self, tokenizer: Tokenizer, template: BoundTemplate | None) -> RowEncoder[Any]:
        """Each answer is encoded behind its prompt."""
        return UnpairedEncoder(
            self.format,
            template,
            tokenizer,
            self.max_length,
            self.on_overlong,
            self.on_invalid,
            self.group_by,
        )
