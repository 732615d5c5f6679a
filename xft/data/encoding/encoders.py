"""The kinds of rows: conversations, raw text, preference pairs, single judgements."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from xft.data.encoding.row_encoder import EncodedRow, RowEncoder, TooLong
from xft.data.encoding.tokenize import (
    check_text,
    encode_conversations,
    encode_texts,
    truncate,
    truncate_prompt,
)
from xft.errors import DataError, EmptyAnswerError, IdenticalAnswersError
from xft.types import ROLES, Conversation, Message, Messages, PreferencePair, Sample, UnpairedExample

Outcome = EncodedRow | DataError | TooLong


class ConversationEncoder(RowEncoder[Conversation]):
    """Questions and answers; a row is one sample, in which the answers are trained."""

    def validate(self, value: Any) -> Conversation:
        """Messages, or a :class:`Conversation` of them, with an answer to learn."""
        dialog = value if isinstance(value, Conversation) else Conversation(value)
        if isinstance(dialog.messages, Iterator):
            dialog = replace(dialog, messages=list(dialog.messages))
        check_turns(dialog.messages)
        if not all(isinstance(each, Mapping) for each in _listed(dialog.tools)):
            raise DataError(f"the format gives the tools {dialog.tools!r:.60}, expected a list of objects")
        return dialog

    def dedup_text(self, value: Conversation) -> Iterable[str]:
        """Who says what."""
        return _visible_text(value.messages, value.tools)

    def encode(self, values: Sequence[Conversation]) -> list[Outcome]:
        """Encode; cut or drop what is too long."""
        assert self.template is not None
        results = encode_conversations(values, self.template, self.tokenizer)
        return [self._fit(value, each) for value, each in zip(values, results, strict=True)]

    def _fit(self, dialog: Conversation, result: Sample | DataError) -> Outcome:
        assert self.template is not None
        if isinstance(result, DataError):
            return result
        length = len(result)
        if length <= self.max_length:
            return EncodedRow([result], length, unknown=self.has_unknown(result.text, [result.input_ids]))
        if self.on_overlong == "truncate":
            cut = truncate(dialog, self.template, self.tokenizer, self.max_length)
            if cut is not None:
                return EncodedRow([cut], length, True, self.has_unknown(cut.text, [cut.input_ids]))
        return TooLong(length)


class DocumentEncoder(RowEncoder[str]):
    """Raw text; a row is cut into chunks, in which every token is trained."""

    def validate(self, value: Any) -> str:
        """A text that is not empty."""
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"got {value!r:.60}, expected text that is not empty")
        check_text(value)
        return value

    def dedup_text(self, value: str) -> Iterable[str]:
        """The text."""
        return [value]

    def encode(self, values: Sequence[str]) -> list[Outcome]:
        """Cut documents into chunks, without loss."""
        documents = encode_texts(values, self.tokenizer, self.max_length)
        return [self._count(text, chunks) for text, chunks in zip(values, documents, strict=True)]

    def _count(self, text: str, chunks: list[Sample]) -> EncodedRow:
        # Every token but the border is a label once; the last is the EOS that we put there.
        ids = [each.labels for each in chunks[:-1]] + [chunks[-1].labels[:-1]]
        length = sum(each.num_targets for each in chunks)
        return EncodedRow(chunks, length, unknown=self.has_unknown(text, ids))


class PreferenceEncoder(RowEncoder[PreferencePair]):
    """Pairs of a better and a worse answer; a row is two samples, the chosen one first."""

    def validate(self, value: Any) -> PreferencePair:
        """A :class:`PreferencePair` whose answers differ."""
        if not isinstance(value, PreferencePair):
            raise DataError(
                f"the format gives a {type(value).__name__}, expected a pair of a chosen and a rejected answer; "
                "conversations are for data type='instruction'"
            )
        check_pair(value)
        return value

    def dedup_text(self, value: PreferencePair) -> Iterable[str]:
        """Prompt and both answers."""
        return _pair_text(value)

    def scores_contradict(self, value: PreferencePair) -> bool:
        """Whether the rejected answer has the higher score."""
        return _reversed(value)

    def encode(self, values: Sequence[PreferencePair]) -> list[Outcome]:
        """Encode both answers, each behind the prompt."""
        return _encode_completions(self, [(each, (each.chosen, each.rejected)) for each in values])


class UnpairedEncoder(RowEncoder[UnpairedExample | PreferencePair]):
    """Answers with a label, wanted or not; a row is one sample that knows its label.

    A pair is two judgements: the chosen answer is wanted, the rejected one is not.
    """

    def validate(self, value: Any) -> UnpairedExample | PreferencePair:
        """A :class:`UnpairedExample` answer, or a :class:`PreferencePair`."""
        if isinstance(value, PreferencePair):
            check_pair(value)
        elif isinstance(value, UnpairedExample):
            check_turns([*value.prompt, *value.answer])
        else:
            raise DataError(
                f"the format gives a {type(value).__name__}, expected an answer with a label (format='kto') or "
                "a pair (format='preference')"
            )
        return value

    def dedup_text(self, value: UnpairedExample | PreferencePair) -> Iterable[str]:
        """Prompt, answer and label; of a pair, prompt and both answers."""
        if isinstance(value, PreferencePair):
            return _pair_text(value)
        return (*_visible_text(value.prompt, value.tools), str(value.label), *_visible_text(value.answer))

    def scores_contradict(self, value: UnpairedExample | PreferencePair) -> bool:
        """Whether a pair's rejected answer has the higher score."""
        return isinstance(value, PreferencePair) and _reversed(value)

    def encode(self, values: Sequence[UnpairedExample | PreferencePair]) -> list[Outcome]:
        """Encode each answer behind its prompt."""
        results = _encode_completions(self, [(each, _answers(each)) for each in values])
        for value, result in zip(values, results, strict=True):
            if isinstance(result, EncodedRow):
                labels = (True, False) if isinstance(value, PreferencePair) else (value.label,)
                result.samples = [
                    replace(sample, desirable=label)
                    for sample, label in zip(result.samples, labels, strict=True)
                ]
        return results


def _answers(value: UnpairedExample | PreferencePair) -> tuple[Messages, ...]:
    return (value.chosen, value.rejected) if isinstance(value, PreferencePair) else (value.answer,)


def _encode_completions(
    task: RowEncoder[Any], values: Sequence[tuple[PreferencePair | UnpairedExample, tuple[Messages, ...]]]
) -> list[Outcome]:
    """Encode the answers of each row, each behind the prompt; a row fits as a whole or not at all."""
    assert task.template is not None
    rows = [
        [Conversation([*value.prompt, *answer], value.tools) for answer in answers]
        for value, answers in values
    ]
    encoded = iter(
        encode_conversations([each for row in rows for each in row], task.template, task.tokenizer)
    )
    outcomes: list[Outcome] = []
    for (value, _), dialogs in zip(values, rows, strict=True):
        results = [next(encoded) for _ in dialogs]
        samples = [each for each in results if isinstance(each, Sample)]
        if len(samples) < len(results):
            outcomes.append(next(each for each in results if isinstance(each, DataError)))
        else:
            outcomes.append(_fit(task, dialogs, len(value.prompt), samples))
    return outcomes


def _fit(
    task: RowEncoder[Any], dialogs: Sequence[Conversation], turns: int, samples: list[Sample]
) -> Outcome:
    """The samples of a row where they fit, or with a shorter prompt where that is allowed."""
    assert task.template is not None
    if len(samples) == 2 and np.array_equal(samples[0].input_ids, samples[1].input_ids):
        return IdenticalAnswersError(
            "the chosen and the rejected answer become the same tokens, so nothing is preferred"
        )
    length = max(map(len, samples))
    cut = length > task.max_length
    if cut:
        if task.on_overlong != "truncate":
            return TooLong(length)
        shorter = truncate_prompt(dialogs, turns, task.template, task.tokenizer, task.max_length)
        if shorter is None:
            return TooLong(length)
        samples = shorter
    unknown = any(task.has_unknown(each.text, [each.input_ids]) for each in samples)
    return EncodedRow(samples, length, cut, unknown)


def check_pair(pair: PreferencePair) -> None:
    """Check that both answers of a pair can be learned, and differ.

    Raises:
        DataError: with what is wrong.
    """
    for answer in (pair.chosen, pair.rejected):
        check_turns([*pair.prompt, *answer])
    if _answer_key(pair.chosen) == _answer_key(pair.rejected):
        raise IdenticalAnswersError(
            "the chosen and the rejected answer are the same, so nothing is preferred"
        )


def check_turns(messages: Messages) -> None:
    """Check that turns are a conversation with something to learn in it.

    Raises:
        DataError: with the turn that is wrong.
    """
    if messages is None or isinstance(messages, (str, dict, PreferencePair, UnpairedExample)):
        raise DataError(
            f"the format gives {messages!r:.60}, expected messages; raw text is for data type='text', "
            "pairs for type='preference', single labels for type='unpaired_preference'"
        )
    if not all(
        isinstance(each, Message) and each.role in ROLES and isinstance(each.content, str)
        for each in _listed(messages)
    ):
        raise DataError(f"the format gives {messages!r:.100}, expected Messages of {', '.join(ROLES)}")
    answers = [each for each in messages if each.is_target]
    if not answers:
        raise DataError("the row has no answer to learn (no trained turn of the assistant)")
    if any(not each.content.strip() and not each.tool_calls for each in answers):
        raise EmptyAnswerError("an answer is empty, so there is nothing to learn from the row")
    first = next((each for each in messages if each.role != "system"), answers[0])
    if first.role != "user" and first.is_target:
        raise DataError("the first turn is the assistant's, expected a turn of the user that it answers")
    for before, after in pairwise(messages):
        if before.role == after.role and after.role != "tool":
            raise DataError(f"two turns of the {after.role} in a row")


def _reversed(pair: PreferencePair) -> bool:
    return pair.scores is not None and pair.scores[0] < pair.scores[1]


def _pair_text(pair: PreferencePair) -> Iterator[str]:
    yield from _visible_text(pair.prompt, pair.tools)
    yield from ("chosen", *_visible_text(pair.chosen))
    yield from ("rejected", *_visible_text(pair.rejected))


def _visible_text(messages: Messages, tools: Iterable[Any] = ()) -> Iterator[str]:
    for tool in tools:
        yield repr(tool)
    for each in messages:
        yield each.role
        yield each.content
        if each.reasoning or each.tool_calls:
            yield f"{each.reasoning}{each.tool_calls!r}"


def _listed(value: Any) -> Sequence[Any]:
    """A list as it is, and anything else as a list of something that fits nowhere."""
    return value if isinstance(value, (list, tuple)) else [None]


def _answer_key(messages: Messages) -> list[tuple[Any, ...]]:
    return [(each.role, each.content.strip(), each.reasoning, each.tool_calls) for each in messages]
