"""Tokenize rendered conversations and raw text into ids and labels.

The joined text of a conversation is tokenized once, with offsets, so the ids equal those of
``apply_chat_template``. The labels follow from the character offsets of each token. A token that
begins before an answer is not a target even if it reaches into it: generation starts after the header.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xft.data.images.image_tokens import ImageTokenCollapser
from xft.data.images.placeholders import expand_placeholders
from xft.errors import DataError, ModelError, TemplateError
from xft.templates import BoundTemplate
from xft.types import (
    IGNORE_INDEX,
    Conversation,
    Image,
    ImageProcessor,
    IntArray,
    Sample,
    Segment,
    Tokenizer,
)

if TYPE_CHECKING:
    from tokenizers import Encoding

_PENDING = DataError("not encoded yet")


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A rendered conversation.

    Attributes:
        index: index among the conversations.
        segments: rendered segments, in which sequences of identical image tokens are collapsed.
        text: rendered text with all image tokens.
        images: images of the messages.
        counts: number of tokens of each collapsed sequence.
    """

    index: int
    segments: list[Segment]
    text: str
    images: tuple[Image, ...]
    counts: list[int]


def encode_conversations(
    conversations: Sequence[Conversation],
    template: BoundTemplate,
    tokenizer: Tokenizer,
    processor: ImageProcessor | None = None,
) -> list[Sample | DataError]:
    """Encode conversations in one batch.

    Args:
        conversations: conversations, each with at least one target message.
        template: chat template.
        tokenizer: a fast tokenizer, which returns offsets.
        processor: image processor of the model; ``None`` for a text model.

    Returns:
        For each conversation, its sample or its error.

    Raises:
        ModelError: the tokenizer is slow.
    """
    results: list[Sample | DataError] = []
    rendered: list[_Rendered] = []
    collapser = None if processor is None else ImageTokenCollapser(tokenizer, processor.token_ids)
    for index, conversation in enumerate(conversations):
        try:
            bound = template.with_kwargs(conversation.template_kwargs)
            segments = bound.segments(conversation.messages, conversation.tools)
            images: tuple[Image, ...] = ()
            if processor is not None:
                images = tuple([image for message in conversation.messages for image in message.images])
                segments = expand_placeholders(segments, images, processor)
            text = "".join([segment.text for segment in segments])
            check_text(text)
            counts: list[int] = []
            if collapser is not None and images:
                segments, counts = collapser.collapse(segments)
            rendered.append(_Rendered(index, segments, text, images, counts))
            results.append(_PENDING)
        except DataError as error:
            results.append(error)
    encodings = tokenize(
        tokenizer, ["".join([segment.text for segment in item.segments]) for item in rendered]
    )
    bos = tokenizer.bos_token_id
    for item, encoding in zip(rendered, encodings, strict=True):
        try:
            ids, labels = _build_labels(item.segments, encoding, bos)
            if collapser is not None and item.counts:
                repeats = collapser.repeats(ids, item.counts)
                ids, labels = ids.repeat(repeats), labels.repeat(repeats)
            results[item.index] = Sample(ids, labels, item.text, images=item.images)
        except DataError as error:
            results[item.index] = error
    return results


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> list[Any]:
    """Tokenize texts with the Rust backend of a fast tokenizer, which returns offsets without
    creating Python objects for them.

    Returns:
        A ``tokenizers.Encoding`` for each text. No special token is added.

    Raises:
        ModelError: the tokenizer is slow.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            "tokenizer: got a slow tokenizer, which returns no offsets; expected a fast one, to locate answers in "
            "the text. Save a tokenizer.json next to the model",
            key="tokenizer",
            got=type(tokenizer).__name__,
        )
    backend = tokenizer.backend_tokenizer
    # A tokenizer.json may contain a truncation setting, which would cut text silently.
    backend.no_truncation()
    backend.no_padding()
    return list(backend.encode_batch(texts, add_special_tokens=False)) if texts else []


def _build_labels(
    segments: Sequence[Segment], encoding: "Encoding", bos: int | None
) -> tuple[IntArray, IntArray]:
    """Return the ids and the labels of tokenized segments."""
    ids = np.array(encoding.ids, dtype=np.int32)
    if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
        raise TemplateError(
            "the text begins with the beginning-of-text token twice. Fix the chat template", key="template"
        )
    labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int32)
    position = 0
    for segment in segments:
        stop = position + len(segment.text)
        if segment.is_target:
            first, last = _tokens_between(encoding, position, stop)
            labels[first : last + 1] = ids[first : last + 1]
        position = stop
    return ids, labels


def _char_range(encoding: "Encoding", token: int) -> tuple[int, int]:
    """Return begin and end of a token's characters; special tokens, which have none, are never added."""
    chars = encoding.token_to_chars(token)
    assert chars is not None
    return chars


def _tokens_between(encoding: "Encoding", start: int, stop: int) -> tuple[int, int]:
    """Find the first and the last token of the characters ``start`` to ``stop``. The last one must be the end-of-turn
    token.

    Raises:
        TemplateError: no token ends at ``stop``.
    """
    position = start
    # A normalizer may drop characters, which then have no token.
    while (first := encoding.char_to_token(position)) is None and position < stop - 1:
        position += 1
    last = encoding.char_to_token(stop - 1)
    if first is not None and last is not None:
        while first <= last and _char_range(encoding, first)[0] < start:
            first += 1
        if first <= last and _char_range(encoding, last)[1] == stop:
            return first, last
    raise TemplateError(
        "the end-of-turn token is merged with the answer, so the model would not learn to stop; expected a token "
        "of its own after the answer",
        key="template",
    )


def check_text(text: str) -> None:
    """Check that a text has no lone surrogate, which JSON can spell and UTF-8 cannot encode.

    Raises:
        DataError: the text has one; the error quotes it, and the text before it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        before = text[max(0, error.start - 20) : error.start]
        raise DataError(
            f"got {text[error.start]!r} after {before!r}, half of a surrogate pair; expected whole characters",
            key="text",
            got=text[error.start],
        ) from error


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer, max_length: int) -> list[list[Sample]]:
    """Encode documents for continued pretraining: every token is a target exactly once.

    Each document begins with BOS if the tokenizer adds one by itself, else with EOS; this token is context, not a target.
    It ends with EOS, which is a target. A long document is split into chunks. Each chunk begins with the last token of
    the previous chunk, as context, so that every token has a token before it to be predicted from. With ``max_length=3``,
    BOS 0 and EOS 9, the document ``[5, 6, 7]`` becomes::

        input_ids  [[   0, 5, 6], [   6, 7, 9]]
        labels     [[-100, 5, 6], [-100, 7, 9]]

    Args:
        texts: the documents.
        tokenizer: a fast tokenizer with an EOS token.
        max_length: maximum number of tokens of a chunk, at least 2.

    Returns:
        The chunks of each document. Their targets are the tokens of the document and one EOS.

    Raises:
        ModelError: the tokenizer has no EOS token, or is slow.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ModelError(key="tokenizer.eos_token", expected="an EOS token, to separate documents")
    with_specials = tokenizer("", add_special_tokens=True)["input_ids"]
    first_id = with_specials[0] if with_specials else eos
    documents: list[list[Sample]] = []
    for encoding in tokenize(tokenizer, list(texts)):
        ids = np.array([first_id, *encoding.ids, eos], dtype=np.int32)
        chunks: list[Sample] = []
        for start in range(0, len(ids) - 1, max_length - 1):
            piece = ids[start : start + max_length]
            labels = piece.copy()
            labels[0] = IGNORE_INDEX
            chunks.append(Sample(piece, labels))
        documents.append(chunks)
    return documents
