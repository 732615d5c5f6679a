"""Find the answers in a text that cannot be traced, by rendering with marks in their place.

The text with a mark differs from the text itself in the answer and nowhere else, whatever the
template adds before, after or between. Two renderings are enough where all else stays the same
when every answer is replaced at once; otherwise the answers are replaced one at a time.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from xft.errors import TemplateError
from xft.templates.delimiters import Turn
from xft.types import Message, Messages, ToolCall

Render = Callable[[Messages], str]
_PRIVATE_USE = range(0xE000, 0xF900)


def find_spans(full: str, messages: Messages, render: Render, turn: Turn) -> list[tuple[int, int]]:
    """Where the trained pieces of a text begin and end.

    Args:
        full: ``render(messages)``.
        messages: the conversation.
        render: gives the text of a conversation.
        turn: what opens and closes the assistant's turn.

    Raises:
        TemplateError: an answer cannot be found, is not opened or not closed.
    """
    trained = [at for at, each in enumerate(messages) if each.is_target]
    first, last = _strangers(messages)
    mark = f"{first}answer{last}"
    said = _all_at_once(full, messages, trained, render, first, last)
    spans: list[tuple[int, int]] = []
    done = 0
    for number, at in enumerate(trained):
        if said is not None:
            begin, end = said[number]
        else:
            begin, end = _one(full, messages, at, render, mark)
        if begin < done:
            raise TemplateError(f"turn {at + 1}: the template merges two answers into one")
        start = done + turn.start(full[done:begin], at)
        # What closes a plain answer stands right behind it; behind a tool call it is looked for.
        limit = end + len(turn.end_of_turn)
        if messages[at].tool_calls:
            limit = _one(full, messages, at + 1, render, mark)[0] if at + 1 < len(messages) else len(full)
        done = end + turn.end(full[end:limit], at, messages[at])
        spans.append((start, done))
    return spans


def _strangers(messages: Messages) -> tuple[str, str]:
    """Two characters that stand nowhere in a conversation."""
    said: set[str] = set()
    for each in messages:
        said.update(each.content, each.reasoning)
        for call in each.tool_calls:
            said.update(call.name, json.dumps(call.arguments, ensure_ascii=False))
    first, last = islice((chr(code) for code in _PRIVATE_USE if chr(code) not in said), 2)
    return first, last


def _all_at_once(
    full: str, messages: Messages, trained: Sequence[int], render: Render, first: str, last: str
) -> list[tuple[int, int]] | None:
    """Replace all answers by marks and lay the fixed text between them along the text.

    Returns:
        Where each answer stands; ``None`` where the fixed text is not the same, or an answer
        with reasoning or tool calls, which stand apart from the content, is among them.
    """
    if any(messages[at].reasoning or messages[at].tool_calls for at in trained):
        return None
    marked = list(messages)
    for at in trained:
        marked[at] = replace(marked[at], content=f"{first}{at}{last}")
    try:
        rest = render(marked)
    except TemplateError:
        return None
    fixed: list[str] = []
    for at in trained:
        before, mark, rest = rest.partition(f"{first}{at}{last}")
        if not mark:
            return None
        fixed.append(before)
    fixed.append(rest)
    if any(first in each for each in fixed) or not full.startswith(fixed[0]):
        return None
    found: list[tuple[int, int]] = []
    position = len(fixed[0])
    for at, behind in zip(trained, fixed[1:], strict=True):
        for said in _forms(messages[at].content):
            if full.startswith(said, position) and full.startswith(behind, position + len(said)):
                found.append((position, position + len(said)))
                position += len(said) + len(behind)
                break
        else:
            return None
    return found if position == len(full) else None


def _forms(content: str) -> Iterator[str]:
    """What templates make of an answer."""
    yield content
    yield content.strip()
    yield content.lstrip("\n")
    yield content.rstrip()
    yield content.rpartition("</think>")[2].lstrip("\n")
    yield content.rpartition("</think>")[2].strip()


def _one(full: str, messages: Messages, at: int, render: Render, mark: str) -> tuple[int, int]:
    """Where what turn ``at`` says begins and ends in ``full``: where the text differs from the one
    in which something else is said."""
    marked = list(messages)
    said = messages[at]
    calls = tuple(ToolCall(call.name, {mark: mark}, call.id) for call in said.tool_calls)
    marked[at] = Message(said.role, mark, said.is_target, mark if said.reasoning else "", calls, said.name)
    other = render(marked)
    begin = _common_prefix(full, other)
    return begin, len(full) - _common_prefix(full[begin:][::-1], other[begin:][::-1])


def _common_prefix(left: str, right: str) -> int:
    """Length of the longest common prefix, by bisection: slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
