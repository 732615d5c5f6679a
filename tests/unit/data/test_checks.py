"""Checks of conversations and pairs: the error names the turn as the row counts it, and the fix."""

import pytest

from xft.data import formats
from xft.data.encoding.checks import check_pair, check_turns
from xft.errors import DataError, EmptyAnswerError, IdenticalAnswersError
from xft.types import Message, PreferencePair, Row, ToolCall

CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}


def turn(role: str, content: str | None = "x", **keys: object) -> Row:
    return {"role": role, "content": content, **keys}


@pytest.mark.parametrize(
    ("row", "key", "fix"),
    [
        ({"messages": [turn("user"), turn("assistant", " ")]}, "messages[2]", ""),
        ({"messages": [turn("user"), turn("assistant", " ")], "system": "s"}, "messages[2]", ""),
        ({"messages": [turn("system"), turn("assistant"), turn("user")]}, "messages[2]", "'weight': 0"),
        ({"messages": [turn("assistant"), turn("user")]}, "messages[1]", "'weight': 0"),
        ({"messages": [turn("user"), turn("user"), turn("assistant")]}, "messages[2]", ""),
        ({"messages": [turn("user"), turn("user"), turn("assistant")], "system": "s"}, "messages[2]", ""),
        (
            {
                "messages": [
                    turn("user"),
                    turn("assistant", None, tool_calls=[CALL]),
                    turn("assistant", None, tool_calls=[CALL]),
                    turn("tool"),
                ]
            },
            "messages[3]",
            "parallel calls",
        ),
    ],
)
def test_turn_error_names_the_turn_of_the_row(row: Row, key: str, fix: str) -> None:
    value = formats.openai(row)
    with pytest.raises(DataError) as caught:
        check_turns(value, row)  # type: ignore[arg-type]
    assert caught.value.key == key
    assert fix in caught.value.fix


def test_greeting_without_loss_is_accepted() -> None:
    row = {"messages": [turn("assistant", weight=0), turn("user"), turn("assistant")]}
    check_turns(formats.openai(row), row)  # type: ignore[arg-type]


def test_turn_of_a_row_without_turns_is_counted() -> None:
    with pytest.raises(EmptyAnswerError) as caught:
        check_turns([Message("user", "x"), Message("assistant", "", True)], {"output": ""})
    assert caught.value.key == "turns[2]"


def test_empty_content_with_tool_calls_is_accepted() -> None:
    check_turns([Message("user", "x"), Message("assistant", "", True, "", (ToolCall("f", {}),))], {})


def test_pair_of_equal_answers_raises() -> None:
    answers = [[Message("assistant", text, True)] for text in ("x", " x ")]
    with pytest.raises(IdenticalAnswersError):
        check_pair(PreferencePair([Message("user", "q")], *answers), {})
