"""Check that a rendered text contains the complete conversation.

Otherwise the model would be trained to answer without the content that the template drops.
"""

import json
from collections.abc import Sequence
from typing import Any

from xft.errors import TemplateError
from xft.types import Message, Messages


def check_content_is_rendered(text: str, messages: Messages, tools: Sequence[Any]) -> None:
    """Raise an error if content, a tool call or a tool is missing in the text.

    Whitespace around content may be stripped. Tool results may be rendered as JSON. Reasoning may be
    dropped, as templates of reasoning models do in earlier turns: if an answer starts with ``<think>``,
    only the text after the last ``</think>`` is required.

    Args:
        text: rendered conversation.
        messages: the conversation.
        tools: tools of the conversation; their names are required.

    Raises:
        TemplateError: Something is missing; the error names the turn and the content.
    """
    missing = _first_missing(text, messages)
    if missing is not None:
        message = messages[missing]
        calls = " next to its tool calls" if message.tool_calls else ""
        raise TemplateError(
            f"turn {missing + 1}: the chat template drops the content of the {message.role} message "
            f"({_abbreviate(message.content)}){calls}; use another template",
            key="template",
            got=message.content,
        )
    for index, message in enumerate(messages):
        for call in message.tool_calls:
            if _as_json(call.name) not in text:
                raise TemplateError(
                    f"turn {index + 1}: the chat template drops the call of {call.name!r}; use a template that supports "
                    "tool calls",
                    key="template",
                    got=call.name,
                )
    for tool in tools:
        name = str(tool.get("function", tool).get("name", ""))
        if _as_json(name) not in text:
            raise TemplateError(
                f"tools: the chat template drops {name!r}; use another template", key="tools", got=name
            )


def _first_missing(text: str, messages: Messages) -> int | None:
    """Return the index of the first message that is not in the text.

    Each occurrence of a text counts for one message only. Messages are nearly always in order. If they are
    not (for example, if a template moves the system message before the last question), the longest messages
    are searched first and removed from the text.
    """
    position = 0
    for message in messages:
        start, length = _find(text, message, position)
        if start < 0:
            break
        position = start + length
    else:
        return None
    for index in sorted(range(len(messages)), key=lambda index: -len(messages[index].content)):
        start, length = _find(text, messages[index], 0)
        if start < 0:
            return index
        if length:
            text = f"{text[:start]}\0{text[start + length :]}"
    return None


def _find(text: str, message: Message, position: int) -> tuple[int, int]:
    """Return offset and length of the content of a message at or after ``position``; offset -1 if it is missing."""
    content = message.content
    if message.role == "assistant" and content.lstrip().startswith("<think>"):
        content = content.rpartition("</think>")[2]
    variants = [content.strip(), _as_json(content)] if message.role == "tool" else [content.strip()]
    return next(
        ((start, len(variant)) for variant in variants if (start := text.find(variant, position)) >= 0),
        (-1, 0),
    )


def _as_json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _abbreviate(content: str) -> str:
    return repr(content if len(content) <= 60 else content[:57] + "...")
