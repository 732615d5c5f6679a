"""Read a prompt and its completion: each a text or turns."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from xft.data.formats.getters import field_error, missing_field_error, parse_list, type_error
from xft.data.formats.messages import SHAREGPT, assistant_message, parse_messages
from xft.data.formats.tracked_row import TrackedRow
from xft.errors import DataError
from xft.types import Message, Row


def read_turns(row: Row, field: str, split: bool, is_answer: bool = True) -> list[Message]:
    """Read an answer (a text, a turn or a list of turns) or a prompt (a text or a list of turns)."""
    value = row.get(field)
    expected = "a text, a turn or a list of turns" if is_answer else "a text or a list of turns"
    if value is None:
        raise missing_field_error(row, field, expected=expected)
    if isinstance(value, str):
        value = _parse_turns(value, field)
        if isinstance(row, TrackedRow):
            value = row.track_turns(field, value)
    if isinstance(value, str):
        return [assistant_message(value, split) if is_answer else Message("user", value)]
    turns = [value] if is_answer and isinstance(value, dict) else value
    if not isinstance(turns, list) or not turns:
        raise type_error(field, value, expected)
    return parse_messages(turns, field, SHAREGPT, train_on=is_answer, split=split)


def check_roles(prompt: Sequence[Message], answer: Sequence[Message], field: str) -> None:
    """Check that the assistant answers a turn of the user or a tool.

    Raises:
        DataError: another turn precedes the answer, or the answer starts with another turn.
    """
    last = prompt[-1].role if prompt else "nobody"
    if last not in ("user", "tool"):
        raise field_error(field, f"the previous turn is of {last}", "a turn of the user or a tool", last)
    first = answer[0].role if answer else "nobody"
    if first != "assistant":
        raise field_error(
            field, f"the answer starts with a turn of {first}", "a turn of the assistant", first
        )


def without_targets(messages: Sequence[Message]) -> list[Message]:
    """Return the same turns as context only."""
    return [replace(turn, is_target=False) if turn.is_target else turn for turn in messages]


def _parse_turns(text: str, field: str) -> object:
    """Return the turns that a text of a table cell spells, or the text itself if it spells none."""
    if text.startswith(("[{", "{")):
        with suppress(DataError):
            value = parse_list(text, field, "turns")
            turns = [value] if isinstance(value, dict) else value
            if isinstance(turns, list) and all(map(_is_turn, turns)):
                return value
    return text


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and any(keys <= value.keys() for keys in _TURN_KEYS)


_TURN_KEYS = ({"role", "content"}, {"from", "value"})
