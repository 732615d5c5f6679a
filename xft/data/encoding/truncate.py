"""Truncate conversations that are too long, by whole exchanges and then by content."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from xft.data.encoding.tokenize import encode_conversations, tokenize
from xft.errors import DataError
from xft.templates import BoundTemplate
from xft.types import Conversation, ImageProcessor, Sample, Tokenizer


def truncate(
    conversation: Conversation,
    template: BoundTemplate,
    tokenizer: Tokenizer,
    max_length: int,
    processor: ImageProcessor | None = None,
) -> Sample | None:
    """Truncate a conversation until it fits.

    Whole exchanges are removed first, the oldest first; the system turn and the last exchange stay.
    If that is not enough, the ends of the longest contents are cut, repeatedly. Headers, end-of-turn
    tokens, reasoning and tool calls are never cut, nor are contents with an image.

    Returns:
        A sample of at most ``max_length`` tokens, or ``None`` if nothing is left to cut.
    """
    # The length falls with each exchange removed, so bisection finds the smallest number that fits.
    numbers = range(len(_exchanges(conversation)))
    enough = bisect_left(
        numbers,
        True,
        key=lambda count: (
            _length(_without(conversation, count), template, tokenizer, processor) <= max_length
        ),
    )
    conversation = _without(conversation, min(enough, max(len(numbers) - 1, 0)))
    while True:
        sample = encode_conversations([conversation], template, tokenizer, processor)[0]
        if isinstance(sample, DataError):
            return None
        if len(sample) <= max_length:
            return sample
        shorter = _cut_longest(conversation, len(sample) - max_length, tokenizer)
        if shorter is None:
            return None
        conversation = shorter


def truncate_prompt(
    conversations: Sequence[Conversation],
    turns: int,
    template: BoundTemplate,
    tokenizer: Tokenizer,
    max_length: int,
    processor: ImageProcessor | None = None,
) -> list[Sample] | None:
    """Truncate the common prompt of several conversations until all fit.

    Whole exchanges are removed, the oldest first, the same ones from each. The system turn, the last
    exchange of the prompt and the answers stay.

    Args:
        conversations: conversations that begin with the same turns.
        turns: number of turns of the prompt.
        template, tokenizer, processor: as in :func:`~xft.data.encoding.tokenize.encode_conversations`.
        max_length: maximum number of tokens of each.

    Returns:
        A sample for each, or ``None`` if they do not fit even so.
    """

    def longest(count: int) -> float:
        return max(_length(_without(chat, count), template, tokenizer, processor) for chat in conversations)

    most = sum(1 for turn in conversations[0].messages[:turns] if turn.role == "user") - 1
    numbers = range(1, most + 1)
    enough = bisect_left(numbers, True, key=lambda count: longest(count) <= max_length)
    if enough == len(numbers):
        return None
    cut = [_without(chat, numbers[enough]) for chat in conversations]
    # All were encoded before, so none is an error.
    return [
        sample
        for sample in encode_conversations(cut, template, tokenizer, processor)
        if isinstance(sample, Sample)
    ]


def _length(
    conversation: Conversation,
    template: BoundTemplate,
    tokenizer: Tokenizer,
    processor: ImageProcessor | None = None,
) -> float:
    sample = encode_conversations([conversation], template, tokenizer, processor)[0]
    return math.inf if isinstance(sample, DataError) else len(sample)


def _exchanges(conversation: Conversation) -> list[int]:
    """Return the indices of the user turns that begin an exchange, up to the last target answer."""
    last = max((index for index, turn in enumerate(conversation.messages) if turn.is_target), default=-1)
    return [
        index for index, turn in enumerate(conversation.messages) if turn.role == "user" and index <= last
    ]


def _without(conversation: Conversation, count: int) -> Conversation:
    """Remove the ``count`` oldest exchanges. The system turn stays."""
    if not count:
        return conversation
    head = 1 if conversation.messages[0].role == "system" else 0
    begin = _exchanges(conversation)[count]
    return replace(conversation, messages=[*conversation.messages[:head], *conversation.messages[begin:]])


def _cut_longest(conversation: Conversation, excess: int, tokenizer: Tokenizer) -> Conversation | None:
    """Cut ``excess`` tokens from the ends of the longest contents, down to one common length.

    Contents of 9, 5 and 2 tokens with an excess of 6 become 4, 4 and 2 tokens.
    """
    encodings = tokenize(tokenizer, [turn.content for turn in conversation.messages])
    sizes = [
        0 if turn.images else len(encoding)
        for turn, encoding in zip(conversation.messages, encodings, strict=True)
    ]
    level = _equalize(sizes, excess)
    messages = [
        replace(message, content=_prefix_of(message.content, encoding.offsets, level))
        if size > level
        else message
        for message, encoding, size in zip(conversation.messages, encodings, sizes, strict=True)
    ]
    if not all(after.content for after, size in zip(messages, sizes, strict=True) if size > level):
        return None
    changed = any(
        after.content != before.content
        for after, before in zip(messages, conversation.messages, strict=True)
    )
    return replace(conversation, messages=messages) if changed else None


def _equalize(sizes: Sequence[int], excess: int) -> int:
    """Find the greatest length, at least 1, to which all longer contents are cut to lose ``excess``."""

    def lost(level: int) -> int:
        return sum(size - level for size in sizes if size > level)

    levels = range(max(sizes, default=1), 0, -1)
    return levels[min(bisect_left(levels, excess, key=lost), len(levels) - 1)]


def _prefix_of(content: str, offsets: Sequence[tuple[int, int]], keep: int) -> str:
    """Return the first ``keep`` tokens of a content, without splitting a character of several tokens."""
    while keep > 1 and offsets[keep - 1][1] > offsets[keep][0]:
        keep -= 1
    return content[: offsets[keep - 1][1]].rstrip()
