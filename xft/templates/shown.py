"""Whether a text shows all that a conversation says. What a template leaves out, the model would
learn as if it had never been said."""

import json
from collections.abc import Sequence
from typing import Any

from xft.errors import TemplateError
from xft.types import Conversation, Message


def check_shown(text: str, messages: Conversation, tools: Sequence[Any]) -> None:
    """Refuse a text in which something is missing.

    White space around a content may be stripped, a tool's result may be written as JSON, and
    reasoning may be left out, as the templates of reasoning models do in earlier turns: of an answer
    is looked for what stands behind its last ``</think>``.

    Args:
        text: what the template made of the conversation.
        messages: the conversation.
        tools: what it offers; their names are looked for.

    Raises:
        TemplateError: with the turn and what is missing.
    """
    position = 0
    for at, message in enumerate(messages):
        said = message.content
        if message.role == "assistant":
            said = said.rpartition("</think>")[2]
        place = _find(text, said.strip(), position)
        if place < 0 and not (message.role == "tool" and _as_json(said) in text):
            raise TemplateError(
                f"turn {at + 1}: the chat template leaves out what the {message.role} says "
                f"({_short(said)}){_reason(message)}; name another template in the config"
            )
        position = max(position, place)
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


def _find(text: str, said: str, position: int) -> int:
    """Turns stand in their order almost always, so the search goes on where the last one ended."""
    place = text.find(said, position)
    return place if place >= 0 else text.find(said)


def _as_json(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


def _short(said: str) -> str:
    return repr(said if len(said) <= 60 else said[:57] + "...")


def _reason(message: Message) -> str:
    return " beside its tool calls" if message.tool_calls else ""
