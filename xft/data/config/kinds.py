"""The kinds of datasets that a config may declare: conversations, raw text, pairs, labeled answers, prompts."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from xft.data.config.base import DatasetConfig
from xft.data.config.chat_data import ChatData
from xft.data.encoding.encoded import EncodingOptions
from xft.data.encoding.encoders import (
    ConversationEncoder,
    DocumentEncoder,
    PreferenceEncoder,
    UnpairedEncoder,
)
from xft.data.encoding.prompt_encoder import PromptEncoder
from xft.data.encoding.row_encoder import RowEncoder
from xft.errors import ConfigError
from xft.registry import register


@register("data", "instruction")
@dataclass
class InstructionData(ChatData):
    """Conversations. Only answers are targets.

    ``on_overlong='truncate'`` removes whole exchanges of a chat, the oldest first, then cuts the
    content of the longest turn. Headers and end-of-turn tokens stay.

    Args:
        image_folder: folder of the relative paths of images; by default the folder of the data file.
    """

    image_folder: str | None = field(default=None, kw_only=True)
    encoder: ClassVar[type[RowEncoder[Any]]] = ConversationEncoder
    row_kind: ClassVar[str] = "instruction"

    def encoding_options(self) -> EncodingOptions:
        """Options of the row encoder."""
        return replace(super().encoding_options(), image_folder=self.image_folder)


@register("data", "text")
@dataclass
class TextData(DatasetConfig):
    """Raw text for continued pretraining. Every token is a target.

    Documents are separated by EOS and cut into chunks of ``max_length`` tokens without loss, so no
    document is too long.
    """

    encoder: ClassVar[type[RowEncoder[Any]]] = DocumentEncoder
    row_kind: ClassVar[str] = "text"
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

    encoder: ClassVar[type[RowEncoder[Any]]] = PreferenceEncoder
    row_kind: ClassVar[str] = "preference"
    samples_per_example: ClassVar[int] = 2
    sample_kind: ClassVar[str] = "pairs"


@register("data", "unpaired_preference")
@dataclass
class UnpairedPreferenceData(ChatData):
    """Answers with a label, desirable or not (KTO).

    A row that the format reads as a pair gives two examples: the chosen answer is desirable, the
    rejected one is not. Both stay in the same split. ``on_overlong`` is as in :class:`PreferenceData`.
    """

    encoder: ClassVar[type[RowEncoder[Any]]] = UnpairedEncoder
    row_kind: ClassVar[str] = "unpaired_preference"
    sample_kind: ClassVar[str] = "labelled answers"


@register("data", "prompt")
@dataclass
class PromptData(ChatData):
    """Prompts that the model answers during the run (GRPO). Rewards get all columns of a row.

    ``max_length`` limits the prompt, without the completion. A last answer, such as that of instruction data, is left
    out of the prompt. Prompts are never truncated: ``on_overlong`` is ``drop`` or ``error``.

    Args:
        keep_answers: keep the last answer of each row, for ``objective='gkd'`` with ``lmbda`` below 1; ``max_length`` then
            limits prompt and answer together.
    """

    packing: bool | Literal["auto"] = False
    keep_answers: bool = field(default=False, kw_only=True)
    encoder: ClassVar[type[RowEncoder[Any]]] = PromptEncoder
    row_kind: ClassVar[str] = "prompt"
    sample_kind: ClassVar[str] = "prompts"

    def encoding_options(self) -> EncodingOptions:
        """Options of the row encoder."""
        return replace(super().encoding_options(), keep_answers=self.keep_answers)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packing:
            raise ConfigError(
                key="data.packing", got=self.packing, expected="False: prompts are answered, not packed"
            )
        if self.on_overlong == "truncate":
            raise ConfigError(
                key="data.on_overlong", got="truncate", expected="'drop' or 'error': a part of a prompt is another prompt"
            )  # fmt: skip
