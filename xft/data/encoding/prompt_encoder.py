"""Encode the prompts of reinforcement learning."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from xft.data.encoding.checks import as_list, check_messages, check_roles, check_turns
from xft.data.encoding.encoded import EncodedRow, OverlongRow
from xft.data.encoding.encoders import visible_text
from xft.data.encoding.row_encoder import RowEncoder
from xft.data.encoding.tokenize import check_text, encode_conversations, tokenize
from xft.data.formats.tracked_row import TrackedRow
from xft.errors import DataError
from xft.types import IGNORE_INDEX, Conversation, Message, Messages, Row, Sample


class PromptEncoder(RowEncoder[Conversation]):
    """Encode a prompt as one sample without targets, which ends with the generation prompt. All columns are kept.

    With ``keep_answers``, the answer of the row is appended, and its tokens are targets.
    """

    keeps_columns: ClassVar[bool] = True

    def validate(self, value: Any, row: Row) -> Conversation:
        """Accept messages, or a :class:`Conversation`; the last answer is removed unless answers are kept.

        Raises:
            DataError: the prompt has no message, ends with another role than ``user`` or ``tool``, has an empty message of
                the user or roles in a wrong order; or answers are kept, and the row has none.
        """
        conversation = value if isinstance(value, Conversation) else Conversation(value)
        messages, answer = _split_answer(as_list(conversation.messages))
        check_messages(messages)
        if not messages or messages[-1].role not in ("user", "tool"):
            role = messages[-1].role if messages else "no message"
            raise DataError(
                f"the prompt ends with {role}; expected a last message of the user or a tool, which the model answers",
                key="prompt",
                got=role,
            )
        check_roles(messages, row)
        for turn in messages:
            if turn.role == "user" and not turn.content.strip():
                raise DataError(
                    "a turn of the user is empty; expected text", key="prompt", got=turn.content
                )
        if self.options.keep_answers:
            if answer is None:
                raise DataError(
                    "the row has no answer after its prompt, which data.keep_answers=True needs",
                    key="data.keep_answers",
                    got=[turn.role for turn in messages],
                )
            context = [replace(turn, is_target=False) for turn in messages]
            messages = [*context, replace(answer, is_target=True)]
            check_turns(messages, row)
        return replace(conversation, messages=messages)

    def messages(self, value: Conversation) -> Iterable[Message]:
        """Return the messages."""
        return value.messages

    def check_columns(self, row: TrackedRow) -> None:
        """Check that the format did not ignore an image, and mark all columns as read: rewards may use them.

        Raises:
            DataError: a column holds an image, a video or audio.
        """
        super().check_columns(row)
        row.read.update(dict.keys(row))

    def dedup_text(self, value: Conversation) -> Iterable[str]:
        """Return tools, roles, contents, reasoning and tool calls."""
        return visible_text(value.messages, value.tools)

    def encode(self, values: Sequence[Conversation]) -> list[EncodedRow | DataError | OverlongRow]:
        """Render with the generation prompt, and tokenize."""
        assert self.template is not None
        texts: list[str | DataError] = []
        for value in values:
            try:
                bound = self.template.with_kwargs(value.template_kwargs)
                messages, _ = _split_answer(value.messages)
                text = bound.render(messages, generation=True, tools=value.tools)
                check_text(text)
                texts.append(text)
            except DataError as error:
                texts.append(error)
        encodings = iter(tokenize(self.tokenizer, [text for text in texts if isinstance(text, str)]))
        answered: list[Sample | DataError | None] = [None] * len(values)
        if self.options.keep_answers:
            answered[:] = encode_conversations(values, self.template, self.tokenizer)
        return [
            self._prompt(text, next(encodings), full) if isinstance(text, str) else text
            for text, full in zip(texts, answered, strict=True)
        ]

    def _prompt(
        self, text: str, encoding: Any, full: Sample | DataError | None
    ) -> EncodedRow | OverlongRow | DataError:
        if isinstance(full, DataError):
            return full
        ids = np.asarray(encoding.ids, dtype=np.int32)
        labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int32)
        if full is not None:
            # Everything that the model generates is a target, also what the template writes before the answer.
            end = int(np.flatnonzero(full.labels != IGNORE_INDEX)[-1]) + 1
            if not np.array_equal(full.input_ids[: len(ids)], ids):
                return DataError(
                    "the chat template renders the prompt differently if an answer follows, so the answer cannot be kept",
                    key="data.keep_answers",
                    got=True,
                )
            answer = full.input_ids[len(ids) : end]
            ids, labels, text = np.concatenate([ids, answer]), np.concatenate([labels, answer]), full.text
        if len(ids) > self.options.max_length:
            return OverlongRow(len(ids))
        sample = Sample(ids, labels, text)
        return EncodedRow([sample], len(ids), has_unknown=self.has_unknown(text, [ids]))


def _split_answer(turns: Messages) -> tuple[list[Message], Message | None]:
    """Return the messages of a prompt, and the answer that follows it, or ``None``."""
    prompt = [*turns]
    while prompt and isinstance(prompt[-1], Message) and prompt[-1].role == "assistant":
        prompt.pop()
    return prompt, turns[len(prompt)] if len(prompt) < len(turns) else None
