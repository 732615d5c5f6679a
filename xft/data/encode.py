"""Encode: segments become ids and labels, through one tokenisation with offsets.

The joined text is tokenised once, so the ids are those of ``apply_chat_template``; the labels
follow from where each token stands in the text. A token that begins before an answer is not
trained even if it reaches into it: the model, asked, begins behind the header.
"""

from collections.abc import Sequence

import numpy as np

from xft.errors import DataError, ModelError, TemplateError
from xft.templates import BoundTemplate
from xft.types import IGNORE_INDEX, Conversation, IntArray, Message, Sample, Segment, Tokenizer


def encode_conversations(
    conversations: Sequence[Conversation], template: BoundTemplate, tokenizer: Tokenizer
) -> list[Sample | DataError]:
    """Encode conversations, in one batch.

    Args:
        conversations: each with at least one trained turn.
        template: how they are rendered.
        tokenizer: a fast tokenizer, for its offsets.

    Returns:
        For each conversation its sample, or the error that it met.
    """
    results: list[Sample | DataError | None] = []
    rendered: list[list[Segment]] = []
    for conversation in conversations:
        try:
            segments = template.segments(conversation)
            check_text("".join(each.text for each in segments))
            rendered.append(segments)
            results.append(None)
        except DataError as error:
            results.append(error)
    texts = ["".join(each.text for each in segments) for segments in rendered]
    tokens = _tokenize(tokenizer, texts) if texts else []
    encoded = iter(zip(rendered, texts, tokens, strict=True))
    out: list[Sample | DataError] = []
    for result in results:
        if result is not None:
            out.append(result)
            continue
        segments, text, (ids, offsets) = next(encoded)
        try:
            out.append(_label(segments, text, ids, offsets, tokenizer))
        except DataError as error:
            out.append(error)
    return out


def _tokenize(tokenizer: Tokenizer, texts: list[str]) -> list[tuple[IntArray, IntArray]]:
    try:
        both = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    except NotImplementedError as error:
        raise ModelError(
            "tokenizer: it gives no offsets (a slow tokenizer), so answers cannot be found in the text; "
            "save a tokenizer.json beside the model"
        ) from error
    return [
        (np.asarray(ids, dtype=np.int32), np.asarray(offsets, dtype=np.int32).reshape(-1, 2))
        for ids, offsets in zip(both["input_ids"], both["offset_mapping"], strict=True)
    ]


def _label(
    segments: Sequence[Segment], text: str, ids: IntArray, offsets: IntArray, tokenizer: Tokenizer
) -> Sample:
    bos = getattr(tokenizer, "bos_token_id", None)
    if bos is not None and len(ids) > 1 and ids[0] == ids[1] == bos:
        raise TemplateError(
            "the text begins with the beginning-of-text token twice; mend the chat template"
        )
    starts, ends = offsets[:, 0], offsets[:, 1]
    trained = np.zeros(len(ids), dtype=bool)
    position = 0
    for segment in segments:
        stop = position + len(segment.text)
        if segment.trained:
            inside = (starts >= position) & (starts < stop) & (ends > starts)
            if not inside.any() or ends[inside].max() != stop:
                raise TemplateError(
                    "the end-of-turn token is not a token of its own behind the answer "
                    f"{segment.text[-30:]!r}, so the model would not learn to stop"
                )
            trained |= inside
        position = stop
    return Sample(ids, np.where(trained, ids, IGNORE_INDEX).astype(np.int32), text)


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


def shorten(
    conversation: Conversation, template: BoundTemplate, tokenizer: Tokenizer, max_length: int
) -> Sample | None:
    """Cut the longest turn, again and again, until the conversation fits.

    Only content is cut, at its end: headers, end-of-turn tokens and the turns themselves stay.

    Returns:
        A sample of at most ``max_length`` tokens, or ``None`` when nothing is left to cut.
    """
    turns = list(conversation)
    while True:
        sample = encode_conversations([turns], template, tokenizer)[0]
        if isinstance(sample, DataError):
            return None
        excess = len(sample) - max_length
        if excess <= 0:
            return sample
        offsets = [each for _, each in _tokenize(tokenizer, [turn.content for turn in turns])]
        longest = max(range(len(turns)), key=lambda index: len(offsets[index]))
        if len(offsets[longest]) <= 1:
            return None
        keep = max(len(offsets[longest]) - excess, 1)
        # A character may be several tokens; it is cut as a whole.
        while keep > 1 and offsets[longest][keep - 1][1] > offsets[longest][keep][0]:
            keep -= 1
        end = int(offsets[longest][keep - 1][1])
        turn = turns[longest]
        cut = turn.content[:end].rstrip()
        if not cut or cut == turn.content:
            return None
        turns[longest] = Message(turn.role, cut, turn.trained)


def encode_text(text: str, tokenizer: Tokenizer, max_length: int) -> list[Sample]:
    """Encode a document for continued pretraining: every token is trained, exactly once.

    A token that stands for the border between documents (BOS where the tokenizer has one that
    it puts there itself, EOS otherwise) comes first, as context; EOS comes last and is trained.
    A long document is cut into chunks; each chunk begins with the last token of the one before
    it, as context, so that no token goes without something that predicts it.

    Args:
        text: the document.
        tokenizer: it must have an EOS token.
        max_length: tokens in a chunk, at least 2.

    Returns:
        The chunks. Their targets add up to the tokens of the document and one EOS.

    Raises:
        ModelError: the tokenizer has no EOS token.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ModelError("tokenizer: it has no EOS token to put between documents")
    with_specials = tokenizer("", add_special_tokens=True)["input_ids"]
    border = with_specials[0] if with_specials else eos
    ids = np.asarray([border, *tokenizer(text, add_special_tokens=False)["input_ids"], eos], dtype=np.int32)
    chunks: list[Sample] = []
    for start in range(0, len(ids) - 1, max_length - 1):
        piece = ids[start : start + max_length]
        labels = piece.copy()
        labels[0] = IGNORE_INDEX
        chunks.append(
            Sample(piece, labels, text if len(ids) <= max_length else str(tokenizer.decode(piece)))
        )
    return chunks
