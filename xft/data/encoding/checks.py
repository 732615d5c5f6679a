"""Check the values that formats return: messages of a conversation, and preference pairs."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from xft.data.formats.getters import field_error
from xft.errors import DataError, EmptyAnswerError, IdenticalAnswersError, short_repr
from xft.types import ROLES, Message, Messages, PreferencePair, Row, UnpairedExample

_NO_LOSS = "'weight': 0 in the turn keeps it as context, without a loss"


def check_pair(pair: PreferencePair, row: Row) -> None:
    """Check that both answers of a pair are targets, and differ.

    Raises:
        DataError: a message is invalid, an answer is not a target, or (:class:`IdenticalAnswersError`) the answers are the
            same.
    """
    for answer in (pair.chosen, pair.rejected):
        check_turns([*pair.prompt, *answer], row)
    if _answer_key(pair.chosen) == _answer_key(pair.rejected):
        raise IdenticalAnswersError(
            "the chosen and the rejected answer are the same; expected answers that differ",
            expected="answers that differ",
        )


def check_turns(messages: Messages, row: Row) -> None:
    """Check that messages are a conversation with an answer in the loss.

    Args:
        messages: messages, as the format returned them.
        row: the row; errors name the path of the message in it.

    Raises:
        DataError: a message is invalid, an answer in the loss is empty (:class:`EmptyAnswerError`), or no answer is in the
            loss.
    """
    check_messages(messages)
    has_target = False
    for index, turn in enumerate(messages):
        if turn.is_target:
            has_target = True
            if not turn.content.strip() and not turn.tool_calls:
                raise _turn_error(
                    messages, index, row, "an answer is empty", "text or tool calls", EmptyAnswerError
                )
    if not has_target:
        raise DataError("the row has no target answer (no assistant turn in the loss)")
    check_roles(messages, row)


def check_messages(messages: Messages) -> None:
    """Check that a format returned messages.

    Raises:
        DataError: it returned another value.
    """
    if messages is None or isinstance(messages, (str, dict, PreferencePair, UnpairedExample)):
        raise DataError(
            f"the format returned {messages!r:.60}; expected messages. Raw text needs data.type='text', pairs "
            "'preference', answers with a label 'unpaired_preference'",
            key="data.format",
            got=type(messages).__name__,
        )
    if not all(
        isinstance(turn, Message) and turn.role in ROLES and isinstance(turn.content, str)
        for turn in as_list(messages)
    ):
        raise DataError(
            f"the format returned {messages!r:.100}; expected Messages with the roles {', '.join(ROLES)}",
            key="data.format",
            got=messages,
        )


def check_roles(messages: Messages, row: Row) -> None:
    """Check the order of the roles in a conversation of at least one message.

    Raises:
        DataError: the first message after the system message is an answer in the loss, or two consecutive messages have
            the same role (except ``tool``).
    """
    first = next((index for index, turn in enumerate(messages) if turn.role != "system"), 0)
    if messages[first].role != "user" and messages[first].is_target:
        problem, expected = "the first turn is the assistant's", "a turn of the user before it"
        raise _turn_error(messages, first, row, problem, expected, fix=_NO_LOSS)
    for index, (before, after) in enumerate(pairwise(messages), 1):
        if before.role == after.role and after.role != "tool":
            problem = f"two turns of the {after.role} in a row"
            calls = before.tool_calls and after.tool_calls
            fix = "write parallel calls as one list into one turn" if calls else ""
            raise _turn_error(messages, index, row, problem, "turns of alternating roles", fix=fix)


def _turn_error(
    messages: Messages,
    index: int,
    row: Row,
    problem: str,
    expected: str,
    kind: type[DataError] = DataError,
    fix: str = "",
) -> DataError:
    return field_error(
        turn_path(messages, index, row), problem, expected, short_repr(messages[index].content), fix, kind
    )


def turn_path(messages: Messages, index: int, row: Row) -> str:
    """Return the path of a message in its row: ``messages[3]``, or ``turns[3]`` if no column has these messages.

    Paths count from 1. A system message that comes from another column is not counted.

    Args:
        messages: messages of the row.
        index: index of the message, from 0.
        row: the row.
    """
    for column, turns in row.items():
        added = len(messages) - len(turns) if isinstance(turns, list) else -1
        if added == 0 or (added == 1 and index and messages[0].role == "system"):
            return f"{column}[{index + 1 - added}]"
    return f"turns[{index + 1}]"


def as_list(value: object) -> Sequence[Any]:
    """Return a list unchanged, and anything else as a list with one invalid item."""
    return value if isinstance(value, (list, tuple)) else [None]


def _answer_key(messages: Messages) -> list[tuple[Any, ...]]:
    return [(turn.role, turn.content.strip(), turn.reasoning, turn.tool_calls) for turn in messages]
