"""Locate the answers in a rendered text, by rendering with sentinels in their place.

The text with a sentinel differs from the text itself in the answer only; the text that the template adds around it is equal. Two
renderings are enough if nothing else changes when all answers are replaced together. Otherwise answers are replaced
one at a time.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from xft.errors import TemplateError
from xft.templates.delimiters import TurnDelimiters
from xft.types import Messages, ToolCall

Render = Callable[[Messages], str]
Span = tuple[int, int]
"""Start and end offset in the rendered text."""
_PRIVATE_USE = range(0xE000, 0xF900)


def find_spans(text: str, messages: Messages, render: Render, delimiters: TurnDelimiters) -> list[Span]:
    """Return the target spans of a text, one for each message with a target.

    Args:
        text: ``render(messages)``.
        messages: the conversation.
        render: renders messages as text.
        delimiters: text that opens and closes the assistant's turn.

    Raises:
        TemplateError: An answer is not in the text, is not opened or not closed.
    """
    targets = [index for index, message in enumerate(messages) if message.is_target]
    first, last = _sentinels(messages)
    sentinel = f"{first}answer{last}"
    contents = _find_all_contents(text, messages, targets, render, first, last)
    spans: list[Span] = []
    position = 0
    for number, index in enumerate(targets):
        if contents is not None:
            begin, end = contents[number]
        else:
            begin, end = _find_content(text, messages, index, render, sentinel)
        if begin < position:
            raise TemplateError(f"turn {index + 1}: the template merges two answers", key="template")
        start = position + delimiters.start(text[position:begin], index)
        # The end-of-turn token follows a plain answer directly. After a tool call, search for it up to the next message.
        limit = end + len(delimiters.end_of_turn)
        if messages[index].tool_calls:
            limit = len(text)
            if index + 1 < len(messages):
                limit = _find_content(text, messages, index + 1, render, sentinel)[0]
        position = end + delimiters.end(text[end:limit], index, messages[index])
        spans.append((start, position))
    return spans


def _sentinels(messages: Messages) -> tuple[str, str]:
    """Return two characters that do not occur in the conversation."""
    characters: set[str] = set()
    for message in messages:
        characters.update(message.content, message.reasoning)
        for call in message.tool_calls:
            characters.update(call.name, json.dumps(call.arguments, ensure_ascii=False))
    first, last = islice((chr(code) for code in _PRIVATE_USE if chr(code) not in characters), 2)
    return first, last


def _find_all_contents(
    text: str, messages: Messages, targets: Sequence[int], render: Render, first: str, last: str
) -> list[Span] | None:
    """Replace all answers by sentinels, and align the fixed text between them with ``text``.

    Returns:
        The span of each answer's content; ``None`` if the fixed text changes, or if an answer has reasoning or tool
        calls, which are separate from the content.
    """
    if any(messages[index].reasoning or messages[index].tool_calls for index in targets):
        return None
    marked = list(messages)
    for index in targets:
        marked[index] = replace(marked[index], content=f"{first}{index}{last}")
    try:
        rest = render(marked)
    except TemplateError:
        return None
    literals: list[str] = []
    for index in targets:
        before, sentinel, rest = rest.partition(f"{first}{index}{last}")
        if not sentinel:
            return None
        literals.append(before)
    literals.append(rest)
    if any(first in literal for literal in literals) or not text.startswith(literals[0]):
        return None
    spans: list[Span] = []
    position = len(literals[0])
    for index, literal in zip(targets, literals[1:], strict=True):
        for content in _variants(messages[index].content):
            end = position + len(content)
            if text.startswith(content, position) and text.startswith(literal, end):
                spans.append((position, end))
                position = end + len(literal)
                break
        else:
            return None
    return spans if position == len(text) else None


def _variants(content: str) -> Iterator[str]:
    """Yield the forms in which templates render an answer."""
    yield content
    yield content.strip()
    yield content.lstrip("\n")
    yield content.rstrip()
    yield content.rpartition("</think>")[2].lstrip("\n")
    yield content.rpartition("</think>")[2].strip()


def _find_content(text: str, messages: Messages, index: int, render: Render, sentinel: str) -> Span:
    """Return the span of a message in ``text``: where the text differs from a rendering with a sentinel."""
    marked = list(messages)
    message = messages[index]
    calls = tuple(ToolCall(call.name, {sentinel: sentinel}, call.id) for call in message.tool_calls)
    reasoning = sentinel if message.reasoning else ""
    marked[index] = replace(message, content=sentinel, reasoning=reasoning, tool_calls=calls)
    other = render(marked)
    begin = _common_prefix(text, other)
    return begin, len(text) - _common_prefix(text[begin:][::-1], other[begin:][::-1])


def _common_prefix(left: str, right: str) -> int:
    """Return the length of the longest common prefix, by bisection: slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
