"""Whether a text shows all that a conversation says. What a template leaves out, the model would
learn as if it had never been said."""

import json
from collections.abc import Sequence
from typing import Any

from xft.errors import TemplateError
from xft.types import Message, Messages


def check_shown(text: str, messages: Messages, tools: Sequence[Any]) -> None:
    """Refuse a text in which something is missing.

    White space around a content may be stripped, a tool's result may be written as JSON, and
    reasoning may be left out, as the templates of reasoning models do in earlier turns: of an answer
    that begins with ``<think>`` is looked for what stands behind its last ``</think>``.

    Args:
        text: what the template made of the conversation.
        messages: the conversation.
        tools: what it offers; their names are looked for.

    Raises:
        TemplateError: with the turn and what is missing.
    """
    missing = _missing(text, messages)
    if missing is not None:
        message = messages[missing]
        raise TemplateError(
            f"turn {missing + 1}: the chat template leaves out what the {message.role} says "
            f"({_short(message.content)}){_reason(message)}; name another template in the config"
        )
    for at, message in enumerate(messages):
        for call in message.tool_calls:
            if _as_json(call.name) not in text:
                raise TemplateError(
                    f"turn {at + 1}: the chat template does not show the call of {call.name!r}; "
                    "name a template that knows tool calls in the config"
                )
    for tool in tools:
        name = str(tool.get("function", tool).get("name", ""))
        if _as_json(name) not in text:
            raise TemplateError(f"tools: the chat template does not show {name!r}; name another template")


def _missing(text: str, messages: Messages) -> int | None:
    """The first turn that is not in the text, each place counting for one turn only.

    Turns stand in their order almost always. Where they do not (a template that puts the system
    text before the last question), the longest are looked for first and taken out.
    """
    position = 0
    for message in messages:
        place, length = _place(text, message, position)
        if place < 0:
            break
        position = place + length
    else:
        return None
    order = sorted(range(len(messages)), key=lambda at: -len(messages[at].content))
    for at in order:
        place, length = _place(text, messages[at], 0)
        if place < 0:
            return at
        if length:
            text = f"{text[:place]}\0{text[place + length :]}"
    return None


def _place(text: str, message: Message, position: int) -> tuple[int, int]:
    """Where a turn stands behind ``position``, and how long it is there; -1 where it is not."""
    said = message.content
    if message.role == "assistant" and said.lstrip().startswith("<think>"):
        said = said.rpartition("</think>")[2]
    forms = [said.strip(), _as_json(said)] if message.role == "tool" else [said.strip()]
    return next(
        ((place, len(each)) for each in forms if (place := text.find(each, position)) >= 0), (-1, 0)
    )


def _as_json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _short(said: str) -> str:
    return repr(said if len(said) <= 60 else said[:57] + "...")


def _reason(message: Message) -> str:
    return " beside its tool calls" if message.tool_calls else ""
