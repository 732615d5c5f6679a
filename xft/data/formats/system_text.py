"""Add a system text to the values of a format."""

from collections.abc import Callable
from dataclasses import replace

from xft.types import Conversation, Message, Messages, PreferencePair, Row, UnpairedExample


def with_system(format: Callable[[Row], object], text: str, row: Row) -> object:
    """Return the value of a format, whose conversation starts with a system message.

    Args:
        format: function from a row to messages, a conversation, a pair or an unpaired example.
        text: system text of conversations without one; empty for none.
        row: the row.
    """
    value = format(row)
    if isinstance(value, list):
        return insert_system(value, text)
    if isinstance(value, Conversation):
        return replace(value, messages=insert_system(value.messages, text))
    if isinstance(value, (PreferencePair, UnpairedExample)):
        return replace(value, prompt=insert_system(value.prompt, text))
    return value


def insert_system(messages: Messages, text: str) -> list[Message]:
    """Return messages that start with a system message, unless they do already or the text is empty."""
    has_system = bool(messages) and isinstance(messages[0], Message) and messages[0].role == "system"
    return [*messages] if has_system or not text else [Message("system", text), *messages]
