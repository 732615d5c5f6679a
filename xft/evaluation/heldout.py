"""A file of rows that were not trained on: the model answers each, and the row has the answer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from xft.data.encoding.encoders import ConversationEncoder
from xft.data.encoding.row_encoder import EncodingOptions
from xft.data.sources import Reading, locate, parse
from xft.errors import DataError
from xft.evaluation.text_metrics import compare_texts
from xft.models import TextGenerator
from xft.types import Conversation, Message

PORTION = 16
"""Rows that are answered at once."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A row and what the model made of it.

    Attributes:
        question: what the user said last.
        reference: the answer of the row.
        answer: the model's.
        stopped: whether the model ended it itself.
    """

    question: str
    reference: str
    answer: str
    stopped: bool


def answer_rows(
    generator: TextGenerator,
    path: str,
    format: Callable[..., Any],
    max_new_tokens: int,
    limit: int | None = None,
) -> Iterator[Answered]:
    """Answer the last turn of each row of a file, taking the likeliest token each time.

    Args:
        generator: who answers.
        path: rows, as ``data.path`` of a config has them.
        format: the map function of the rows.
        max_new_tokens: the most tokens of an answer.
        limit: the most rows.

    Raises:
        DataError: a row cannot be read, or has no answer.
    """
    options = EncodingOptions(format, max_length=10**9)
    encoder = ConversationEncoder(options, generator.tokenizer, generator.template)
    records = islice(iter(Reading(locate(path))), limit)
    while portion := list(islice(records, PORTION)):
        turns: list[Sequence[Message]] = []
        for origin, raw in portion:
            try:
                dialog: Conversation = encoder.validate(format(parse(origin, raw)))
                if dialog.tools or dialog.messages[-1].role != "assistant":
                    raise DataError("expected turns without tools, the last of which is an answer")
            except DataError as error:
                raise DataError(f"{origin}: {error}") from error
            turns.append(dialog.messages)
        answers = generator.answer([each[:-1] for each in turns], max_new_tokens)
        for messages, answer in zip(turns, answers, strict=True):
            yield Answered(
                messages[-2].content,
                messages[-1].content.strip(),
                answer.text,
                answer.finish_reason == "stop",
            )


def metrics_of(answered: Sequence[Answered]) -> dict[str, float]:
    """The metrics of all rows (see ``compare_texts``), and the share of answers that ended themselves.

    Raises:
        DataError: there are no rows.
    """
    if not answered:
        raise DataError("--data: there are no rows")
    found = compare_texts([each.answer for each in answered], [each.reference for each in answered])
    stopped = sum(each.stopped for each in answered) / len(answered)
    return {"rows": float(len(answered)), "stopped": stopped, **found}
