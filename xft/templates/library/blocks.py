"""What the sources of the library are made of: small pieces of Jinja, joined as text.

A source prints contents and decides by roles alone, never by what a content says, wherever the
official template does so too. What a family has no place for is refused, never left out. Reasoning
is the exception: a source that does not ask for ``reasoning_content`` gets it inside the content.
"""

from typing import NamedTuple


class Entry(NamedTuple):
    """A template of the library.

    Attributes:
        source: the Jinja source.
        description: one line: what it looks like, and for which models.
    """

    source: str
    description: str


def refuse(condition: str, rule: str) -> str:
    """Jinja that stops with a sentence.

    Args:
        condition: a Jinja expression; where it holds, the conversation is refused.
        rule: the sentence. It must not contain single quotes.
    """
    return "{% if " + condition + " %}{{ raise_exception('" + rule + "') }}{% endif %}"


def each(messages: str, *pieces: str) -> str:
    """Jinja that does the pieces for each message of a list, called ``message`` in them."""
    return "{% for message in " + messages + " %}" + "".join(pieces) + "{% endfor %}"


def by_role(**pieces: str) -> str:
    """Jinja that does the piece of the message's role, e.g. ``user="{{ message['content'] }}"``."""
    branches = [f"if message['role'] == '{role}' %}}{piece}" for role, piece in pieces.items()]
    return "{% " + "{% el".join(branches) + "{% endif %}"


def opens(header: str) -> str:
    """Jinja that ends the text with what opens the assistant's turn, where an answer is asked for."""
    return "{% if add_generation_prompt %}{{ '" + header + "' }}{% endif %}"


NO_TOOLS = refuse(
    "tools",
    "this template has no place for tools: leave them out, or take one that has, for instance qwen3",
)
NO_CALLS = refuse(
    "message.tool_calls or message['role'] == 'tool'",
    "this template has no place for tool calls and their results: take one that has, for instance qwen3",
)
KNOWN_ROLES = refuse(
    "message['role'] not in ['system', 'user', 'assistant']",
    "this template knows the roles system, user and assistant only",
)
NO_SYSTEM = refuse(
    "message['role'] == 'system'",
    "this template has no place for a system turn: put its text into the first turn of the user",
)
TEXT_ONLY = NO_TOOLS + each("messages", NO_CALLS, KNOWN_ROLES)
"""Refuses whatever is more than a text by the system, the user or the assistant."""

SPLIT = (
    "{% set has_system = messages[0]['role'] == 'system' %}"
    "{% set turns = messages[1:] if has_system else messages %}"
)
"""Sets ``has_system``, and ``turns`` to the messages behind the optional system turn."""

ALTERNATE = refuse(
    "message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant')",
    "behind an optional system turn, user and assistant must take turns, the user first",
)
"""For the loop over ``turns``: refuses anything but user, assistant, user, assistant ..."""

ROUNDS = TEXT_ONLY + SPLIT
"""How a family begins that knows one system turn, then rounds of question and answer."""
