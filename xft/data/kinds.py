"""The kinds of rows: conversations, raw text, preference pairs, single judgements."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from xft.data.encode import check_text, encode_dialogs, encode_texts, shorten
from xft.data.task import Encoded, Task, TooLong
from xft.errors import DataError
from xft.types import ROLES, Conversation, Dialog, Judged, Message, Pair, Sample

Outcome = Encoded | DataError | TooLong


class Conversations(Task[Dialog]):
    """Questions and answers; a row is one sample, in which the answers are trained."""

    def accept(self, value: Any) -> Dialog:
        """Messages, or a :class:`Dialog` of them, with an answer to learn."""
        dialog = value if isinstance(value, Dialog) else Dialog(value)
        if isinstance(dialog.messages, Iterator):
            dialog = replace(dialog, messages=list(dialog.messages))
        check_turns(dialog.messages)
        if not all(isinstance(each, Mapping) for each in _listed(dialog.tools)):
            raise DataError(f"the format gives the tools {dialog.tools!r:.60}, expected a list of objects")
        return dialog

    def contents(self, value: Dialog) -> Iterable[str]:
        """Who says what."""
        return _said(value.messages, value.tools)

    def encode(self, values: Sequence[Dialog]) -> list[Outcome]:
        """Encode; cut or drop what is too long."""
        assert self.template is not None
        results = encode_dialogs(values, self.template, self.tokenizer)
        return [self._fit(value, each) for value, each in zip(values, results, strict=True)]

    def _fit(self, dialog: Dialog, result: Sample | DataError) -> Outcome:
        assert self.template is not None
        if isinstance(result, DataError):
            return result
        length = len(result)
        if length <= self.max_length:
            return Encoded([result], length, unknown=self.has_unknown(result.text, [result.input_ids]))
        if self.over_length == "truncate":
            cut = shorten(dialog, self.template, self.tokenizer, self.max_length)
            if cut is not None:
                return Encoded([cut], length, True, self.has_unknown(cut.text, [cut.input_ids]))
        return TooLong(length)


class Documents(Task[str]):
    """Raw text; a row is cut into chunks, in which every token is trained."""

    def accept(self, value: Any) -> str:
        """A text that is not empty."""
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"got {value!r:.60}, expected text that is not empty")
        check_text(value)
        return value

    def contents(self, value: str) -> Iterable[str]:
        """The text."""
        return [value]

    def encode(self, values: Sequence[str]) -> list[Outcome]:
        """Cut documents into chunks, without loss."""
        documents = encode_texts(values, self.tokenizer, self.max_length)
        return [self._count(text, chunks) for text, chunks in zip(values, documents, strict=True)]

    def _count(self, text: str, chunks: list[Sample]) -> Encoded:
        # Every token but the border is a label once; the last is the EOS that we put there.
        ids = [each.labels for each in chunks[:-1]] + [chunks[-1].labels[:-1]]
        length = sum(each.num_targets for each in chunks)
        return Encoded(chunks, length, unknown=self.has_unknown(text, ids))


class Preferences(Task[Pair]):
    """Pairs of a better and a worse answer; a row is two samples, the chosen one first."""

    def accept(self, value: Any) -> Pair:
        """A :class:`Pair` whose answers differ."""
        if not isinstance(value, Pair):
            raise DataError(
                f"the format gives a {type(value).__name__}, expected a pair of a chosen and a rejected answer; "
                "conversations are for data type='instruction'"
            )
        for answer in (value.chosen, value.rejected):
            check_turns([*value.prompt, *answer])
        if _key(value.chosen) == _key(value.rejected):
            raise DataError("the chosen and the rejected answer are the same, so nothing is preferred")
        return value

    def contents(self, value: Pair) -> Iterable[str]:
        """Prompt and both answers."""
        yield from _said(value.prompt, value.tools)
        yield from ("chosen", *_said(value.chosen))
        yield from ("rejected", *_said(value.rejected))

    def encode(self, values: Sequence[Pair]) -> list[Outcome]:
        """Encode both answers, each behind the prompt."""
        assert self.template is not None
        both = [
            _behind(each.prompt, answer, each) for each in values for answer in (each.chosen, each.rejected)
        ]
        results = encode_dialogs(both, self.template, self.tokenizer)
        return [
            self._fit(chosen, rejected)
            for chosen, rejected in zip(results[::2], results[1::2], strict=True)
        ]

    def _fit(self, chosen: Sample | DataError, rejected: Sample | DataError) -> Outcome:
        if isinstance(chosen, DataError):
            return chosen
        if isinstance(rejected, DataError):
            return rejected
        longest = max(len(chosen), len(rejected))
        if longest > self.max_length:
            return TooLong(longest)
        unknown = any(self.has_unknown(each.text, [each.input_ids]) for each in (chosen, rejected))
        return Encoded([chosen, rejected], longest, unknown=unknown)


class Judgements(Task[Judged]):
    """Answers with a label, wanted or not; a row is one sample that knows its label."""

    def accept(self, value: Any) -> Judged:
        """A :class:`Judged` answer."""
        if not isinstance(value, Judged):
            raise DataError(
                f"the format gives a {type(value).__name__}, expected an answer with a label (format='kto')"
            )
        check_turns([*value.prompt, *value.answer])
        return value

    def contents(self, value: Judged) -> Iterable[str]:
        """Prompt, answer and label."""
        yield from _said(value.prompt, value.tools)
        yield from (str(value.desirable), *_said(value.answer))

    def encode(self, values: Sequence[Judged]) -> list[Outcome]:
        """Encode each answer behind its prompt."""
        assert self.template is not None
        dialogs = [_behind(each.prompt, each.answer, each) for each in values]
        results = encode_dialogs(dialogs, self.template, self.tokenizer)
        return [self._fit(value, each) for value, each in zip(values, results, strict=True)]

    def _fit(self, value: Judged, result: Sample | DataError) -> Outcome:
        if isinstance(result, DataError):
            return result
        if len(result) > self.max_length:
            return TooLong(len(result))
        unknown = self.has_unknown(result.text, [result.input_ids])
        return Encoded([replace(result, desirable=value.desirable)], len(result), unknown=unknown)


def check_turns(messages: Conversation) -> None:
    """Check that turns are a conversation with something to learn in it.

    Raises:
        DataError: with the turn that is wrong.
    """
    if messages is None or isinstance(messages, (str, dict, Pair, Judged)):
        raise DataError(
            f"the format gives {messages!r:.60}, expected messages; raw text is for data type='text', "
            "pairs for type='preference', single labels for type='judged'"
        )
    if not all(
        isinstance(each, Message) and each.role in ROLES and isinstance(each.content, str)
        for each in _listed(messages)
    ):
        raise DataError(f"the format gives {messages!r:.100}, expected Messages of {', '.join(ROLES)}")
    answers = [each for each in messages if each.trained]
    if not answers:
        raise DataError("the row has no answer to learn (no trained turn of the assistant)")
    if any(not each.content.strip() and not each.tool_calls for each in answers):
        raise DataError("an answer is empty, so there is nothing to learn from the row")
    first = next((each for each in messages if each.role != "system"), answers[0])
    if first.role != "user" and first.trained:
        raise DataError("the first turn is the assistant's, expected a turn of the user that it answers")
    for before, after in pairwise(messages):
        if before.role == after.role and after.role != "tool":
            raise DataError(f"two turns of the {after.role} in a row")


def _behind(prompt: Conversation, answer: Conversation, value: Pair | Judged) -> Dialog:
    return Dialog([*prompt, *answer], value.tools)


def _said(messages: Conversation, tools: Iterable[Any] = ()) -> Iterator[str]:
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


def _key(messages: Conversation) -> list[tuple[Any, ...]]:
    return [(each.role, each.content.strip(), each.reasoning, each.tool_calls) for each in messages]
