"""Answer the rows of a held-out file, and compare the answers with those of the rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from xft.data.encoding.encoded import EncodingOptions
from xft.data.encoding.encoders import ConversationEncoder
from xft.data.formats.turns_as_text import mark_turn_columns
from xft.data.sources import RecordReader, parse, resolve_source
from xft.data.store.token_store import text_digest
from xft.errors import DataError
from xft.evaluation.prompts import answer_in_groups
from xft.evaluation.text_metrics import compare_texts
from xft.models import TextGenerator
from xft.types import Conversation

BATCH_SIZE = 16
"""Rows that are answered together."""


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """A row and the answer of the model.

    Attributes:
        question: content of the last user message.
        reference: answer of the row.
        answer: generated answer.
        stopped: whether the model ended its answer, before the limit.
        content: digest of the text of the row, as a data set has it.
    """

    question: str
    reference: str
    answer: str
    stopped: bool
    content: int = field(default=0, compare=False)


def answer_rows(
    generator: TextGenerator,
    path: str,
    format: Callable[..., Any],
    max_new_tokens: int,
    limit: int | None = None,
) -> Iterator[GeneratedAnswer]:
    """Answer each row of a file in place of its last message, by greedy decoding.

    Args:
        generator: model and template.
        path: rows, as in ``data.path``.
        format: format of the rows.
        max_new_tokens: maximum number of tokens of an answer.
        limit: maximum number of rows.

    Raises:
        DataError: A row cannot be read, or has no answer.
    """
    options = EncodingOptions(format, max_length=10**9)
    encoder = ConversationEncoder(options, generator.tokenizer, generator.template)
    source = resolve_source(path)
    records = islice(mark_turn_columns(RecordReader(source), source), limit)
    while chunk := list(islice(records, BATCH_SIZE)):
        conversations: list[Conversation] = []
        for origin, raw in chunk:
            row = parse(origin, raw)
            try:
                conversation = encoder.validate(encoder.apply_format(row), row)
                if conversation.tools or conversation.messages[-1].role != "assistant":
                    raise DataError("expected messages without tools that end with an answer")
            except DataError as error:
                raise error.prefixed(origin) from error
            conversations.append(conversation)
        prompts = [(chat.messages[:-1], chat.template_kwargs) for chat in conversations]
        answers = answer_in_groups(generator, prompts, max_new_tokens)
        for conversation, answer in zip(conversations, answers, strict=True):
            messages = conversation.messages
            reference = messages[-1].content.strip()
            yield GeneratedAnswer(
                messages[-2].content,
                reference,
                answer.text,
                answer.finish_reason == "stop",
                text_digest(encoder.dedup_text(conversation)),
            )


def metrics_of(answers: Sequence[GeneratedAnswer]) -> dict[str, float]:
    """Return the metrics of all rows (:func:`compare_texts`), and the fraction of answers that ended before the limit.

    Raises:
        DataError: There are no rows.
    """
    if not answers:
        raise DataError(key="--data", got="no rows", expected="at least one row")
    metrics = compare_texts([row.answer for row in answers], [row.reference for row in answers])
    stopped = sum(row.stopped for row in answers) / len(answers)
    return {"rows": float(len(answers)), "stopped": stopped, **metrics}
