"""Row encoders for conversations, raw text, preference pairs and unpaired preferences."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xft.data.encoding.checks import as_list, check_pair, check_turns
from xft.data.encoding.encoded import EncodedRow, OverlongRow
from xft.data.encoding.row_encoder import RowEncoder
from xft.data.encoding.tokenize import (
    check_text,
    encode_conversations,
    encode_texts,
)
from xft.data.encoding.truncate import truncate, truncate_prompt
from xft.data.formats.tracked_row import TrackedRow
from xft.data.images.reading import inspect_images
from xft.errors import DataError, IdenticalAnswersError
from xft.types import Conversation, Message, Messages, PreferencePair, Row, Sample, UnpairedExample

Outcome = EncodedRow | DataError | OverlongRow


class ConversationEncoder(RowEncoder[Conversation]):
    """Encode a conversation as one sample, in which the answers are targets."""

    def validate(self, value: Any, row: Row) -> Conversation:
        """Accept messages, or a :class:`Conversation`, with an answer in the loss."""
        conversation = value if isinstance(value, Conversation) else Conversation(value)
        if isinstance(conversation.messages, Iterator):
            conversation = replace(conversation, messages=list(conversation.messages))
        check_turns(conversation.messages, row)
        if not all(isinstance(tool, Mapping) for tool in as_list(conversation.tools)):
            raise DataError(
                f"the format returned the tools {conversation.tools!r:.60}; expected a list of objects",
                key="tools",
                got=conversation.tools,
            )
        return conversation

    def messages(self, value: Conversation) -> Iterable[Message]:
        """Return the messages."""
        return value.messages

    def inspect_images(self, value: Conversation, folder: Path) -> tuple[Conversation, Counter[str]]:
        """Inspect the images, if the model has an image processor."""
        if self.processor is None or not any(message.images for message in value.messages):
            return super().inspect_images(value, folder)
        messages, changes = inspect_images(value.messages, folder)
        return replace(value, messages=messages), changes

    def dedup_text(self, value: Conversation) -> Iterable[str]:
        """Return tools, roles, contents, reasoning, tool calls, image digests, and arguments of the template."""
        kwargs = [repr(value.template_kwargs)] if value.template_kwargs else []
        return [*visible_text(value.messages, value.tools), *kwargs]

    def encode(self, values: Sequence[Conversation]) -> list[Outcome]:
        """Encode conversations; truncate overlong ones if the config allows it."""
        assert self.template is not None
        results = encode_conversations(values, self.template, self.tokenizer, self.processor)
        return [self._truncate_to_fit(value, result) for value, result in zip(values, results, strict=True)]

    def _truncate_to_fit(self, conversation: Conversation, result: Sample | DataError) -> Outcome:
        assert self.template is not None
        if isinstance(result, DataError):
            return result
        length = len(result)
        if length <= self.options.max_length:
            has_unknown = self.has_unknown(result.text, [result.input_ids])
            return EncodedRow([result], length, has_unknown=has_unknown)
        if self.options.on_overlong == "truncate":
            limit = self.options.max_length
            sample = truncate(conversation, self.template, self.tokenizer, limit, self.processor)
            if sample is not None:
                has_unknown = self.has_unknown(sample.text, [sample.input_ids])
                return EncodedRow([sample], length, True, has_unknown)
        return OverlongRow(length)


class DocumentEncoder(RowEncoder[str]):
    """Encode a document as chunks, in which every token is a target."""

    def validate(self, value: object, row: Row) -> str:
        """Accept text that is not empty."""
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"got {value!r:.60}; expected non-empty text", key="text", got=value)
        check_text(value)
        return value

    def check_columns(self, row: TrackedRow) -> None:
        """Accept any columns: a text does not refer to the image of its row."""

    def messages(self, value: str) -> Iterable[Message]:
        """Return no messages."""
        return ()

    def dedup_text(self, value: str) -> Iterable[str]:
        """Return the text."""
        return [value]

    def encode(self, values: Sequence[str]) -> list[Outcome]:
        """Split documents into chunks, without dropping tokens."""
        documents = encode_texts(values, self.tokenizer, self.options.max_length)
        return [self._count(text, chunks) for text, chunks in zip(values, documents, strict=True)]

    def _count(self, text: str, chunks: list[Sample]) -> EncodedRow:
        # Every token of the text is a label once. The last label is the appended EOS.
        ids = [chunk.labels for chunk in chunks[:-1]] + [chunks[-1].labels[:-1]]
        length = sum(chunk.num_targets for chunk in chunks)
        return EncodedRow(chunks, length, has_unknown=self.has_unknown(text, ids))


class PreferenceEncoder(RowEncoder[PreferencePair]):
    """Encode a preference pair as two samples, the chosen one first."""

    def validate(self, value: object, row: Row) -> PreferencePair:
        """Accept a :class:`PreferencePair` whose answers differ."""
        if not isinstance(value, PreferencePair):
            raise DataError(
                f"the format returned a {type(value).__name__}; expected a pair of a chosen and a rejected "
                "answer. Conversations need data.type='instruction'",
                key="data.format",
                got=type(value).__name__,
            )
        check_pair(value, row)
        return value

    def messages(self, value: PreferencePair) -> Iterable[Message]:
        """Return the messages of prompt and answers."""
        return (*value.prompt, *value.chosen, *value.rejected)

    def inspect_images(self, value: PreferencePair, folder: Path) -> tuple[PreferencePair, Counter[str]]:
        """Inspect the images, if the model has an image processor."""
        if self.processor is None or not any(message.images for message in self.messages(value)):
            return super().inspect_images(value, folder)
        prompt, changes = inspect_images(value.prompt, folder)
        chosen, more = inspect_images(value.chosen, folder)
        rejected, _ = inspect_images(value.rejected, folder)
        return replace(value, prompt=prompt, chosen=chosen, rejected=rejected), changes + more

    def dedup_text(self, value: PreferencePair) -> Iterable[str]:
        """Return the texts of prompt and both answers, as of a conversation."""
        return _pair_text(value)

    def scores_contradict(self, value: PreferencePair) -> bool:
        """Whether the rejected answer has the higher score."""
        return _reversed(value)

    def encode(self, values: Sequence[PreferencePair]) -> list[Outcome]:
        """Encode both answers, each after the prompt."""
        return _encode_completions(self, [(pair, (pair.chosen, pair.rejected)) for pair in values])


class UnpairedEncoder(RowEncoder[UnpairedExample | PreferencePair]):
    """Encode an answer with a label as one sample.

    A pair becomes two samples: the chosen answer is desirable, the rejected one is not.
    """

    def validate(self, value: object, row: Row) -> UnpairedExample | PreferencePair:
        """Accept an :class:`UnpairedExample` or a :class:`PreferencePair`."""
        if isinstance(value, PreferencePair):
            check_pair(value, row)
        elif isinstance(value, UnpairedExample):
            check_turns([*value.prompt, *value.answer], row)
        else:
            raise DataError(
                f"the format returned a {type(value).__name__}; expected an answer with a label (format='kto') or "
                "a pair (format='preference')",
                key="data.format",
                got=type(value).__name__,
            )
        return value

    def messages(self, value: UnpairedExample | PreferencePair) -> Iterable[Message]:
        """Return the messages of prompt and answers."""
        return [*value.prompt, *[turn for answer in _answers(value) for turn in answer]]

    def dedup_text(self, value: UnpairedExample | PreferencePair) -> Iterable[str]:
        """Return the texts of prompt, label and answer; of a pair, of prompt and both answers."""
        if isinstance(value, PreferencePair):
            return _pair_text(value)
        return (*visible_text(value.prompt, value.tools), str(value.label), *visible_text(value.answer))

    def scores_contradict(self, value: UnpairedExample | PreferencePair) -> bool:
        """Whether a pair's rejected answer has the higher score."""
        return isinstance(value, PreferencePair) and _reversed(value)

    def encode(self, values: Sequence[UnpairedExample | PreferencePair]) -> list[Outcome]:
        """Encode each answer after its prompt."""
        results = _encode_completions(self, [(value, _answers(value)) for value in values])
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
    encoder: RowEncoder[Any],
    values: Sequence[tuple[PreferencePair | UnpairedExample, tuple[Messages, ...]]],
) -> list[Outcome]:
    """Encode the answers of each row, each after the prompt. If one answer is overlong, the whole row is."""
    assert encoder.template is not None
    rows = [
        [Conversation([*value.prompt, *answer], value.tools) for answer in answers]
        for value, answers in values
    ]
    encoded = iter(
        encode_conversations(
            [conversation for row in rows for conversation in row],
            encoder.template,
            encoder.tokenizer,
            encoder.processor,
        )
    )
    outcomes: list[Outcome] = []
    for (value, _), conversations in zip(values, rows, strict=True):
        results = [next(encoded) for _ in conversations]
        samples = [result for result in results if isinstance(result, Sample)]
        if len(samples) < len(results):
            outcomes.append(next(result for result in results if isinstance(result, DataError)))
        else:
            outcomes.append(_truncate_to_fit(encoder, conversations, len(value.prompt), samples))
    return outcomes


def _truncate_to_fit(
    encoder: RowEncoder[Any],
    conversations: Sequence[Conversation],
    num_prompt_messages: int,
    samples: list[Sample],
) -> Outcome:
    """Truncate the prompt of an overlong row, if the config allows it."""
    assert encoder.template is not None
    if len(samples) == 2 and np.array_equal(samples[0].input_ids, samples[1].input_ids):
        return IdenticalAnswersError(
            "the chosen and the rejected answer have the same tokens; expected answers that differ"
        )
    length = max(map(len, samples))
    overlong = length > encoder.options.max_length
    if overlong:
        if encoder.options.on_overlong != "truncate":
            return OverlongRow(length)
        shorter = truncate_prompt(
            conversations,
            num_prompt_messages,
            encoder.template,
            encoder.tokenizer,
            encoder.options.max_length,
            encoder.processor,
        )
        if shorter is None:
            return OverlongRow(length)
        samples = shorter
    has_unknown = any(encoder.has_unknown(sample.text, [sample.input_ids]) for sample in samples)
    return EncodedRow(samples, length, overlong, has_unknown)


def _reversed(pair: PreferencePair) -> bool:
    return pair.scores is not None and pair.scores[0] < pair.scores[1]


def _pair_text(pair: PreferencePair) -> Iterator[str]:
    yield from visible_text(pair.prompt, pair.tools)
    yield from ("chosen", *visible_text(pair.chosen))
    yield from ("rejected", *visible_text(pair.rejected))


def visible_text(messages: Messages, tools: Iterable[Any] = ()) -> Iterator[str]:
    """Yield tools, roles, contents, reasoning, tool calls and image digests, for the digest of a row."""
    for tool in tools:
        yield repr(tool)
    for turn in messages:
        yield turn.role
        yield turn.content
        if turn.reasoning or turn.tool_calls:
            yield f"{turn.reasoning}{turn.tool_calls!r}"
        if turn.images:
            yield repr([image.digest for image in turn.images])
