"""Encode: segments become ids and labels, through one tokenisation with offsets.

The joined text is tokenised once, so the ids are those of ``apply_chat_template``; the labels
follow from where each token stands in the text. A token that begins before an answer is not
trained even if it reaches into it: the model, asked, begins behind the header.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xft.errors import DataError, ModelError, TemplateError
from xft.templates import BoundTemplate
from xft.types import IGNORE_INDEX, Conversation, Sample, Segment, Tokenizer

_PENDING = DataError("not encoded yet")


def encode_conversations(
    dialogs: Sequence[Conversation], template: BoundTemplate, tokenizer: Tokenizer
) -> list[Sample | DataError]:
    """Encode conversations, in one batch.

    Args:
        dialogs: each with at least one trained turn.
        template: how they are rendered.
        tokenizer: a fast tokenizer, for its offsets.

    Returns:
        For each conversation its sample, or the error that it met.
    """
    results: list[Sample | DataError] = []
    rendered: list[tuple[int, list[Segment], str]] = []
    for index, dialog in enumerate(dialogs):
        try:
            segments = template.segments(dialog.messages, dialog.tools)
            text = "".join([each.text for each in segments])
            check_text(text)
            rendered.append((index, segments, text))
            results.append(_PENDING)
        except DataError as error:
            results.append(error)
    encodings = tokenize(tokenizer, [text for _, _, text in rendered])
    bos = getattr(tokenizer, "bos_token_id", None)
    for (index, segments, text), encoding in zip(rendered, encodings, strict=True):
        try:
            results[index] = _build_labels(segments, text, encoding, bos)
        except DataError as error:
            results[index] = error
    return results


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> list[Any]:
    """Tokenise texts with the Rust side of a fast tokenizer, which gives offsets without making
    Python objects of them.

    Returns:
        A ``tokenizers.Encoding`` for each text. No special token is added.

    Raises:
        ModelError: the tokenizer is a slow one.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            "tokenizer: it gives no offsets (a slow tokenizer), so answers cannot be found in the text; "
            "save a tokenizer.json beside the model"
        )
    # A tokenizer.json may have been saved with a truncation in it, which would cut without a word.
    backend.no_truncation()
    backend.no_padding()
    return list(backend.encode_batch(texts, add_special_tokens=False)) if texts else []


def _build_labels(segments: Sequence[Segment], text: str, encoding: Any, bos: int | None) -> Sample:
    ids = np.array(encoding.ids, dtype=np.int32)
    if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
        raise TemplateError(
            "the text begins with the beginning-of-text token twice; mend the chat template"
        )
    labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int32)
    position = 0
    for segment in segments:
        stop = position + len(segment.text)
        if segment.is_target:
            first, last = _tokens_between(encoding, position, stop)
            labels[first : last + 1] = ids[first : last + 1]
        position = stop
    return Sample(ids, labels, text)


def _tokens_between(encoding: Any, start: int, stop: int) -> tuple[int, int]:
    """The first and the last token of the characters ``start`` to ``stop``, which end in a token
    that closes the turn.

    Raises:
        TemplateError: no token ends where the characters do.
    """
    place = start
    # A normaliser may drop characters; then no token stands for them.
    while (first := encoding.char_to_token(place)) is None and place < stop - 1:
        place += 1
    last = encoding.char_to_token(stop - 1)
    if first is not None and last is not None:
        while first <= last and encoding.token_to_chars(first)[0] < start:
            first += 1
        if first <= last and encoding.token_to_chars(last)[1] == stop:
            return first, last
    raise TemplateError(
        "the end-of-turn token is not a token of its own behind the answer, so the model would not learn to stop"
    )


def check_text(text: str) -> None:
    """Refuse what JSON can say and no file can hold: half of a surrogate pair.

    Raises:
        DataError: with the character and what stands before it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        before = text[max(0, error.start - 20) : error.start]
        raise DataError(
            f"got {text[error.start]!r} behind {before!r}: half of a surrogate pair, which is no character"
        ) from error


def truncate(
    dialog: Conversation, template: BoundTemplate, tokenizer: Tokenizer, max_length: int
) -> Sample | None:
    """Cut a conversation until it fits.

    Of a chat, whole exchanges are taken away, the oldest first; the system turn and the last
    exchange stay. If that is not enough, the content of the longest turn is cut at its end, again
    and again. Headers, end-of-turn tokens, reasoning and tool calls are never cut.

    Returns:
        A sample of at most ``max_length`` tokens, or ``None`` when nothing is left to cut.
    """
    # Every exchange less makes it shorter: the first that fits is found by bisection.
    numbers = range(len(_exchanges(dialog)))
    enough = bisect_left(
        numbers, True, key=lambda each: _length(_without(dialog, each), template, tokenizer) <= max_length
    )
    dialog = _without(dialog, min(enough, max(len(numbers) - 1, 0)))
    while True:
        sample = encode_conversations([dialog], template, tokenizer)[0]
        if isinstance(sample, DataError):
            return None
        if len(sample) <= max_length:
            return sample
        shorter = _cut_longest(dialog, len(sample) - max_length, tokenizer)
        if shorter is None:
            return None
        dialog = shorter


def truncate_prompt(
    dialogs: Sequence[Conversation],
    turns: int,
    template: BoundTemplate,
    tokenizer: Tokenizer,
    max_length: int,
) -> list[Sample] | None:
    """Cut the prompt that several conversations begin with until all of them fit.

    Whole exchanges are taken away, the oldest first, the same ones from each. The system turn, the
    last exchange of the prompt and what follows it stay as they are.

    Args:
        dialogs: conversations that begin with the same turns.
        turns: how many these are.
        template, tokenizer: as in :func:`encode_dialogs`.
        max_length: the most tokens that each may have.

    Returns:
        A sample for each, or ``None`` when they do not fit even so.
    """

    def longest(count: int) -> float:
        return max(_length(_without(each, count), template, tokenizer) for each in dialogs)

    most = sum(1 for each in dialogs[0].messages[:turns] if each.role == "user") - 1
    numbers = range(1, most + 1)
    enough = bisect_left(numbers, True, key=lambda each: longest(each) <= max_length)
    if enough == len(numbers):
        return None
    cut = [_without(each, numbers[enough]) for each in dialogs]
    # All of them were encoded a moment ago, so none is an error.
    return [each for each in encode_conversations(cut, template, tokenizer) if isinstance(each, Sample)]


def _length(dialog: Conversation, template: BoundTemplate, tokenizer: Tokenizer) -> float:
    sample = encode_conversations([dialog], template, tokenizer)[0]
    return math.inf if isinstance(sample, DataError) else len(sample)


def _exchanges(dialog: Conversation) -> list[int]:
    """Where the exchanges of a chat begin, each with a turn of the user, up to the last that has an
    answer to learn."""
    learnt = max((at for at, each in enumerate(dialog.messages) if each.is_target), default=-1)
    return [at for at, each in enumerate(dialog.messages) if each.role == "user" and at <= learnt]


def _without(dialog: Conversation, count: int) -> Conversation:
    """The conversation without its ``count`` oldest exchanges. The system turn stays."""
    if not count:
        return dialog
    head = 1 if dialog.messages[0].role == "system" else 0
    begin = _exchanges(dialog)[count]
    return replace(dialog, messages=[*dialog.messages[:head], *dialog.messages[begin:]])


def _cut_longest(dialog: Conversation, excess: int, tokenizer: Tokenizer) -> Conversation | None:
    """The conversation with ``excess`` tokens less, cut from the ends of the longest contents: all
    that are longer than a certain length are cut to it."""
    encodings = tokenize(tokenizer, [each.content for each in dialog.messages])
    sizes = [len(each) for each in encodings]
    level = _equalize(sizes, excess)
    messages = [
        replace(message, content=_prefix_of(message.content, encoding.offsets, level))
        if size > level
        else message
        for message, encoding, size in zip(dialog.messages, encodings, sizes, strict=True)
    ]
    if not all(after.content for after, size in zip(messages, sizes, strict=True) if size > level):
        return None
    changed = any(
        after.content != each.content for after, each in zip(messages, dialog.messages, strict=True)
    )
    return replace(dialog, messages=messages) if changed else None


def _equalize(sizes: Sequence[int], excess: int) -> int:
    """The greatest length, at least 1, to which all longer ones must be cut to lose ``excess``."""

    def lost(level: int) -> int:
        return sum(size - level for size in sizes if size > level)

    levels = range(max(sizes, default=1), 0, -1)
    return levels[min(bisect_left(levels, excess, key=lost), len(levels) - 1)]


def _prefix_of(content: str, offsets: Sequence[tuple[int, int]], keep: int) -> str:
    """The first tokens of a content. A character may be several tokens; it is cut as a whole."""
    while keep > 1 and offsets[keep - 1][1] > offsets[keep][0]:
        keep -= 1
    return content[: offsets[keep - 1][1]].rstrip()


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer, max_length: int) -> list[list[Sample]]:
    """Encode documents for continued pretraining: every token is trained, exactly once.

    A token that stands for the border between documents (BOS where the tokenizer has one that
    it puts there itself, EOS otherwise) comes first, as context; EOS comes last and is trained.
    A long document is cut into chunks; each chunk begins with the last token of the one before
    it, as context, so that no token goes without something that predicts it.

    Args:
        texts: the documents.
        tokenizer: it must have an EOS token.
        max_length: tokens in a chunk, at least 2.

    Returns:
        The chunks of each document. Their targets add up to the tokens of the document and one EOS.

    Raises:
        ModelError: the tokenizer has no EOS token.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ModelError("tokenizer: it has no EOS token to put between documents")
    with_specials = tokenizer("", add_special_tokens=True)["input_ids"]
    border = with_specials[0] if with_specials else eos
    documents: list[list[Sample]] = []
    for encoding in tokenize(tokenizer, list(texts)):
        ids = np.array([border, *encoding.ids, eos], dtype=np.int32)
        chunks: list[Sample] = []
        for start in range(0, len(ids) - 1, max_length - 1):
            piece = ids[start : start + max_length]
            labels = piece.copy()
            labels[0] = IGNORE_INDEX
            chunks.append(Sample(piece, labels))
        documents.append(chunks)
    return documents
