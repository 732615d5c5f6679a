"""Turns: who speaks, what is trained, and where a system text stands."""

from typing import Any

import pytest

from xft.data import formats
from xft.errors import DataError
from xft.types import Message, Row

USER = {"role": "user", "content": "Hi"}


def openai_turn(**turn: Any) -> Message:
    """The message that a turn of the assistant becomes."""
    value = formats.openai({"messages": [USER, {"role": "assistant", "content": "Yes", **turn}]})
    assert isinstance(value, list)
    return value[1]


# Switches


@pytest.mark.parametrize("key", ["weight", "loss", "train", "trainable"])
@pytest.mark.parametrize(
    ("value", "trained"),
    [
        (0, False),
        (1, True),
        (False, False),
        (True, True),
        (0.0, False),
        ("false", False),
        ("True", True),
        (None, True),
    ],
)
def test_a_switch_says_whether_an_answer_is_trained(key: str, value: Any, trained: bool) -> None:
    assert openai_turn(**{key: value}).is_target is trained


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ({"weight": 0.5}, r"messages\[2\].weight: got 0.5 \(float\), expected true or false"),
        ({"loss": "no"}, r"messages\[2\].loss: got 'no'"),
        ({"train": []}, r"messages\[2\].train: got \[\]"),
        ({"weight": 0, "loss": True}, "the same in each"),
    ],
)
def test_a_switch_that_is_unknown_is_refused(turn: Row, said: str) -> None:
    with pytest.raises(DataError, match=said):
        openai_turn(**turn)


# Speakers and system texts


@pytest.mark.parametrize(
    ("speakers", "role"),
    [
        (("human", "user", "prompter"), "user"),
        (("gpt", "chatgpt", "bing", "bard", "bot", "model", "assistant"), "assistant"),
        (("observation", "tool", "function", "function_response", "tool_response"), "tool"),
        (("system", "developer"), "system"),
    ],
)
def test_speakers_have_many_names(speakers: tuple[str, ...], role: str) -> None:
    for each in speakers:
        for turn in ({"from": each, "value": "x"}, {"role": each, "content": "x"}):
            filled = {"from": None, "value": None, **turn}  # a table writes null where a key is missing
            for row in (turn, filled):
                [message] = formats.sharegpt({"conversations": [row]})
                assert (message.role, message.content) == (role, "x")


@pytest.mark.parametrize(
    ("function", "column"), [(formats.openai, "messages"), (formats.sharegpt, "conversations")]
)
def test_a_system_text_stands_in_a_column_or_in_the_turns(function: Any, column: str) -> None:
    turns = [{"role": "system", "content": "Be brief."}, USER]
    expected = [Message("system", "Be brief."), Message("user", "Hi")]
    assert function({column: turns}) == expected
    assert function({column: [USER], "system": "Be brief."}) == expected
    assert function({column: turns, "system": "Be brief."}) == expected
    assert function({column: turns, "system": None}) == expected
    with pytest.raises(
        DataError, match="field system: the row has a system text here and another one in its turns"
    ):
        function({column: turns, "system": "Be long."})
