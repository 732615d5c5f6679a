"""Locate the answers in a rendered text, by rendering again with sentinels in their place.

The two texts differ only in the answer; the text that the template adds around it is the same. If replacing
all answers that are only text changes nothing else, one more rendering is enough for them, and none is needed
if they stand between texts that the template wrote around answers before. Other answers are replaced one at a
time.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from xft.errors import TemplateError
from xft.templates.answer_prefixes import AnswerPrefixes, RenderTurns, common_prefix
from xft.templates.coverage_check import check_call_names
from xft.templates.turn_ends import TurnEnds
from xft.types import Messages, ToolCall

Render = Callable[[Messages], str]
Span = tuple[int, int]
"""Start and end offset of message content in the rendered text."""
_PRIVATE_USE = range(0xE000, 0xF900)


@dataclass(frozen=True, slots=True)
class TargetSpan:
    """Target span of an answer in the rendered text.

    Attributes:
        start: offset of the first character that is not part of the generation prompt.
        end: offset after the end-of-turn token.
        thought: start and end of the empty thinking block before the answer; ``None`` if there is none.
    """

    start: int
    end: int
    thought: Span | None


def find_spans(
    text: str,
    messages: Messages,
    tools: Sequence[Any],
    render: RenderTurns,
    answer_prefixes: AnswerPrefixes,
    turn_ends: TurnEnds,
) -> list[TargetSpan]:
    """Return the target spans of a text, one for each message with ``is_target``.

    Args:
        text: ``render(messages, tools, False)``.
        messages: the conversation.
        tools: tools of the conversation.
        render: renders messages as text.
        answer_prefixes: finds the text before an answer.
        turn_ends: texts that end the assistant's turn.

    Raises:
        TemplateError: An answer is missing in the text, or the template does not open or end its turn.
    """
    targets = [index for index, message in enumerate(messages) if message.is_target]

    def plain(marked: Messages) -> str:
        return render(marked, tools, False)

    texts = [index for index in targets if not messages[index].reasoning and not messages[index].tool_calls]
    contents = _find_cached_contents(text, messages, texts, tools, answer_prefixes, turn_ends)
    # Sentinels are needed for another rendering only.
    first, last = _sentinels(messages) if len(contents) < len(targets) else ("", "")
    sentinel = f"{first}answer{last}"
    if len(contents) < len(texts):
        contents = _find_text_contents(text, messages, texts, plain, first, last)
    spans: list[TargetSpan] = []
    position = 0
    for index in targets:
        begin, end = contents.get(index) or _find_content(text, messages, index, plain, sentinel)
        if begin < position:
            raise TemplateError(f"turn {index + 1}: the template merges two answers", key="template")
        prefix = answer_prefixes.find(text, begin, messages, index, tools, sentinel)
        offset = begin - len(prefix.text)
        start = max(position, offset + prefix.num_prompt_chars)
        first_of_thought, last_of_thought = prefix.thought
        thought = (offset + first_of_thought, offset + last_of_thought) if last_of_thought else None
        # The turn end directly follows a plain answer. After a tool call, search for it up to the next
        # message.
        limit = end + max(len(turn_ends.last), len(turn_ends.earlier))
        if messages[index].tool_calls:
            limit = len(text)
            if index + 1 < len(messages):
                limit = _find_content(text, messages, index + 1, plain, sentinel)[0]
            if limit < end:
                raise TemplateError(
                    f"turn {index + 1}: the template writes the result of the tool call before the content of the "
                    "turn; remove the content, or move it to a turn after the result",
                    key="template",
                )
        position = end + turn_ends.find_end(text[end:limit], index, messages[index])
        check_call_names(text[start:position], messages[index], index)
        spans.append(TargetSpan(start, position, thought))
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


def _find_cached_contents(
    text: str,
    messages: Messages,
    targets: Sequence[int],
    tools: Sequence[Any],
    answer_prefixes: AnswerPrefixes,
    turn_ends: TurnEnds,
) -> dict[int, Span]:
    """Find the answers between prefixes of earlier conversations and turn ends, without rendering again."""
    ends = tuple({end for end in (turn_ends.last, turn_ends.earlier) if end})
    spans: dict[int, Span] = {}
    for index, begin in answer_prefixes.find_cached(text, messages, targets, tools).items():
        for content in _variants(messages[index].content):
            if text.startswith(content, begin) and text.startswith(ends, begin + len(content)):
                spans[index] = (begin, begin + len(content))
                break
    return spans


def _find_text_contents(
    text: str, messages: Messages, targets: Sequence[int], render: Render, first: str, last: str
) -> dict[int, Span]:
    """Replace answers that are only text with sentinels, and align the fixed text between them with ``text``.

    Returns:
        The span of the content of each answer, by its index. Empty if the fixed text changes.
    """
    marked = list(messages)
    for index in targets:
        marked[index] = replace(marked[index], content=f"{first}{index}{last}")
    try:
        rest = render(marked)
    except TemplateError:
        return {}
    literals: list[str] = []
    for index in targets:
        before, sentinel, rest = rest.partition(f"{first}{index}{last}")
        if not sentinel:
            return {}
        literals.append(before)
    literals.append(rest)
    if any(first in literal for literal in literals) or not text.startswith(literals[0]):
        return {}
    spans: dict[int, Span] = {}
    position = len(literals[0])
    for index, literal in zip(targets, literals[1:], strict=True):
        for content in _variants(messages[index].content):
            end = position + len(content)
            if text.startswith(content, position) and text.startswith(literal, end):
                spans[index] = (position, end)
                position = end + len(literal)
                break
        else:
            return {}
    return spans if position == len(text) else {}


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
    marks = [f"{sentinel[0]}call-{number}{sentinel[-1]}" for number in range(len(message.tool_calls))]
    calls = tuple(
        ToolCall(call.name, {mark: mark}, call.id)
        for call, mark in zip(message.tool_calls, marks, strict=True)
    )
    # A template may reject content next to tool calls.
    content = "" if calls and not message.content else sentinel
    reasoning = sentinel if message.reasoning else ""
    marked[index] = replace(message, content=content, reasoning=reasoning, tool_calls=calls)
    other = render(marked)
    for call, mark in zip(message.tool_calls, marks, strict=True):
        visible = mark[1:-1]  # the private-use characters may be escaped
        if other.count(visible) <= text.count(visible):
            raise TemplateError(
                f"turn {index + 1}: the chat template drops the call of {call.name!r}; use a template that supports "
                "it",
                key="template",
                got=call.name,
            )
    begin = common_prefix(text, other)
    return begin, len(text) - common_prefix(text[begin:][::-1], other[begin:][::-1])
