"""Check that a rendered text contains the complete conversation.

Otherwise the model would be trained to answer without the content that the template drops.
"""

import json
from collections.abc import Sequence
from typing import Any

from xft.errors import TemplateError
from xft.types import IMAGE_PLACE, Message, Messages


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


def check_call_names(text: str, message: Message, index: int) -> None:
    """Raise an error if the name of a called function is missing in an answer.

    Kimi K2 writes the id of a call in place of the name, and expects ids such as ``functions.weather:0``.

    Args:
        text: rendered answer.
        message: the answer.
        index: index of the message.

    Raises:
        TemplateError: A name is missing.
    """
    for call in message.tool_calls:
        if _as_json(call.name) not in text:
            raise TemplateError(
                f"turn {index + 1}: the chat template writes the call without its name {call.name!r}, and with its id "
                f"{call.id!r}; use another template, or ids that contain the name, such as 'functions.{call.name}:0'",
                key="template",
                got=call.id,
                expected=f"functions.{call.name}:0",
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
    if message.images:
        return _find_around_images(text, content, position)
    if message.role == "assistant" and content.lstrip().startswith("<think>"):
        content = content.rpartition("</think>")[2]
    variants = [content.strip(), _as_json(content)] if message.role == "tool" else [content.strip()]
    return next(
        ((start, len(variant)) for variant in variants if (start := text.find(variant, position)) >= 0),
        (-1, 0),
    )


def _find_around_images(text: str, content: str, position: int) -> tuple[int, int]:
    """Return offset and length of the texts around the images of a content. A template may write images first."""
    begin = end = -1
    for piece in filter(None, (piece.strip() for piece in content.split(IMAGE_PLACE))):
        start = text.find(piece, max(position, end))
        if start < 0:
            return -1, 0
        begin, end = (start if begin < 0 else begin), start + len(piece)
    return (position, 0) if begin < 0 else (begin, end - begin)


def _as_json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _abbreviate(content: str) -> str:
    return repr(content if len(content) <= 60 else content[:57] + "...")
