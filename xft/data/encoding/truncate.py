"""Truncate overlong conversations: remove whole exchanges first, then cut contents.

An *exchange* is a user message with all messages up to the next user message.
"""

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

    The oldest exchanges are removed first; the system message and the last exchange stay. If that is not enough, the ends
    of the longest contents are cut, repeatedly. Headers, end-of-turn tokens, reasoning and tool calls are never cut, nor
    are contents with an image.

    Args:
        conversation: the overlong conversation.
        template, tokenizer, processor: as in :func:`~xft.data.encoding.tokenize.encode_conversations`.
        max_length: maximum number of tokens.

    Returns:
        A sample of at most ``max_length`` tokens, or ``None`` if nothing more can be cut.

    Raises:
        ModelError: the tokenizer is slow.
    """
    # Each removed exchange shortens the conversation, so bisection finds the smallest number that is enough.
    counts = range(len(_exchange_starts(conversation)))
    num_removed = bisect_left(
        counts,
        True,
        key=lambda count: (
            _length(_drop_oldest_exchanges(conversation, count), template, tokenizer, processor)
            <= max_length
        ),
    )
    max_removable = max(len(counts) - 1, 0)
    conversation = _drop_oldest_exchanges(conversation, min(num_removed, max_removable))
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
    num_prompt_messages: int,
    template: BoundTemplate,
    tokenizer: Tokenizer,
    max_length: int,
    processor: ImageProcessor | None = None,
) -> list[Sample] | None:
    """Truncate the common prompt of several conversations until all fit.

    The oldest exchanges are removed, the same ones from each conversation. The system message, the last exchange of the
    prompt and the answers stay.

    Args:
        conversations: conversations that begin with the same messages; one of them is overlong.
        num_prompt_messages: number of messages of the prompt.
        template, tokenizer, processor: as in :func:`~xft.data.encoding.tokenize.encode_conversations`.
        max_length: maximum number of tokens of each conversation.

    Returns:
        A sample for each conversation, or ``None`` if one is overlong even with the shortest prompt.

    Raises:
        ModelError: the tokenizer is slow.
    """

    def longest(count: int) -> float:
        return max(
            _length(_drop_oldest_exchanges(conversation, count), template, tokenizer, processor)
            for conversation in conversations
        )

    prompt = conversations[0].messages[:num_prompt_messages]
    max_removable = sum(1 for turn in prompt if turn.role == "user") - 1
    counts = range(1, max_removable + 1)
    position = bisect_left(counts, True, key=lambda count: longest(count) <= max_length)
    if position == len(counts):
        return None
    num_removed = counts[position]
    shortened = [_drop_oldest_exchanges(conversation, num_removed) for conversation in conversations]
    # Their length is finite, so none is an error.
    return [
        sample
        for sample in encode_conversations(shortened, template, tokenizer, processor)
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


def _exchange_starts(conversation: Conversation) -> list[int]:
    """Return the indices of the user messages that begin an exchange, up to the last answer in the loss."""
    last = max((index for index, turn in enumerate(conversation.messages) if turn.is_target), default=-1)
    return [
        index for index, turn in enumerate(conversation.messages) if turn.role == "user" and index <= last
    ]


def _drop_oldest_exchanges(conversation: Conversation, count: int) -> Conversation:
    """Remove the ``count`` oldest exchanges. The system message stays."""
    if not count:
        return conversation
    head = 1 if conversation.messages[0].role == "system" else 0
    begin = _exchange_starts(conversation)[count]
    return replace(conversation, messages=[*conversation.messages[:head], *conversation.messages[begin:]])


def _cut_longest(conversation: Conversation, excess: int, tokenizer: Tokenizer) -> Conversation | None:
    """Cut ``excess`` tokens from the ends of the longest contents, down to one common length.

    Contents of 9, 5 and 2 tokens with an excess of 6 become 4, 4 and 2 tokens.

    Returns:
        The shortened conversation; ``None`` if nothing can be cut, or a content would become empty.
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
    """Return the greatest length, at least 1, such that cutting longer contents to it removes ``excess`` tokens."""

    def num_cut(level: int) -> int:
        return sum(size - level for size in sizes if size > level)

    levels = range(max(sizes, default=1), 0, -1)
    return levels[min(bisect_left(levels, excess, key=num_cut), len(levels) - 1)]


def _prefix_of(content: str, offsets: Sequence[tuple[int, int]], keep: int) -> str:
    """Return the first ``keep`` tokens of a content, without splitting a character of several tokens."""
    while keep > 1 and offsets[keep - 1][1] > offsets[keep][0]:
        keep -= 1
    return content[: offsets[keep - 1][1]].rstrip()
