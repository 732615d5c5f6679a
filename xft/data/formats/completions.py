"""Read a prompt and its completion: each a text or turns."""

from collections.abc import Sequence
from dataclasses import replace

from xft.data.formats.getters import field_error, missing_field_error, type_error
from xft.data.formats.images import place_images
from xft.data.formats.messages import SHAREGPT, assistant_message, parse_messages
from xft.data.formats.tracked_row import TrackedRow
from xft.data.formats.turns_as_text import TurnsAsText
from xft.types import Image, Message, Row


def read_turns(
    row: Row, field: str, split: bool, is_answer: bool = True, images: Sequence[Image] = ()
) -> list[Message]:
    """Read an answer (a text, a turn or a list of turns) or a prompt (a text or a list of turns).

    Args:
        row: the row.
        field: column of the answer or the prompt.
        split: split an answer that starts with ``<think>`` into reasoning and content.
        is_answer: whether it is an answer.
        images: images of the columns, to which the turns refer.

    Raises:
        DataError: the value is none of these, or the numbers of images and of their places differ.
    """
    value = row.get(field)
    expected = "a text, a turn or a list of turns" if is_answer else "a text or a list of turns"
    if value is None:
        raise missing_field_error(row, field, expected=expected)
    if isinstance(value, TurnsAsText) and value:
        value = value.parse(field)
        if isinstance(row, TrackedRow):
            value = row.track_turns(field, value)
    if isinstance(value, str):
        turn = assistant_message(value, split) if is_answer else Message("user", value)
        return place_images([turn], [()], images, field)
    turns = [value] if is_answer and isinstance(value, dict) else value
    if not isinstance(turns, list) or not turns:
        raise type_error(field, value, expected)
    return parse_messages(turns, field, SHAREGPT, train_on=is_answer, split=split, images=images)


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
