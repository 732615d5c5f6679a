"""Turns: who speaks, what is trained, and where a system text stands."""

import json
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
def test_role_names_map_to_roles(speakers: tuple[str, ...], role: str) -> None:
    for each in speakers:
        for turn in ({"from": each, "value": "x"}, {"role": each, "content": "x"}):
            filled = {"from": None, "value": None, **turn}  # a table writes null where a key is missing
            for row in (turn, filled):
                [message] = formats.sharegpt({"conversations": [row]})
                assert (message.role, message.content) == (role, "x")


@pytest.mark.parametrize(
    ("function", "column"), [(formats.openai, "messages"), (formats.sharegpt, "conversations")]
)
def test_system_text_from_column_or_turns(function: Any, column: str) -> None:
    turns = [{"role": "system", "content": "Be brief."}, USER]
    expected = [Message("system", "Be brief."), Message("user", "Hi")]
    assert function({column: turns}) == expected
    assert function({column: [USER], "system": "Be brief."}) == expected
    assert function({column: turns, "system": "Be brief."}) == expected
    assert function({column: turns, "system": None}) == expected
    with pytest.raises(DataError) as caught:
        function({column: turns, "system": "Be long."})
    assert caught.value.key == "system"
    assert caught.value.got == "Be long."


# Reasoning


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_a_field(key: str) -> None:
    assert openai_turn(**{key: "So."}) == Message("assistant", "Yes", True, "So.")


@pytest.mark.parametrize(
    ("content", "reasoning", "said"),
    [
        ("<think>\nSo.\n\nThen.\n</think>\n\nYes", "So.\n\nThen.", "Yes"),
        ("<think>So.</think>Yes", "So.", "Yes"),
        ("<think>\n\n</think>\n\nYes", "", "<think>\n\n</think>\n\nYes"),
        ("<think>\n\n</think>\n\n<think>So.</think>Yes", "So.", "Yes"),
        ("<think></think>" * 2 + "Yes", "", "<think></think>" * 2 + "Yes"),
        ("So.</think>Yes", "So.", "Yes"),
        ("\nSo.\n</think>\n\nYes", "So.", "Yes"),
        ("</think>\n\nYes", "", "</think>\n\nYes"),
        (" <think>So.</think>Yes", "", " <think>So.</think>Yes"),
        ("Yes <think>So.</think>", "", "Yes <think>So.</think>"),
    ],
)
def test_a_closed_block_at_the_beginning_is_reasoning(content: str, reasoning: str, said: str) -> None:
    expected = Message("assistant", said, True, reasoning)
    assert openai_turn(content=content) == expected
    assert formats.alpaca({"instruction": "x", "output": content})[1] == expected
    assert openai_turn(content=content).content == said
    kept = formats.openai({"messages": [{"role": "assistant", "content": content}]}, split_think=False)
    assert kept == [Message("assistant", content, True)]


def test_a_thought_that_never_closes_raises() -> None:
    after_empty = {"content": "<think>\n\n</think>\n\n<think>So. Yes"}
    parts = {"content": [{"type": "text", "text": "<think>So. Yes"}]}
    for turn in ({"content": "<think>So. Yes"}, parts, after_empty):
        with pytest.raises(DataError) as error:
            openai_turn(**turn)
        assert error.value.key == "messages[2].content"
    with pytest.raises(DataError) as error:
        formats.alpaca({"instruction": "x", "output": "<think>So. Yes"})
    assert error.value.got == "<think>So. Yes"


def test_a_block_of_the_user_stays_where_it_is() -> None:
    turn = {"role": "user", "content": "<think>a</think>b"}
    assert formats.openai({"messages": [turn]}) == [Message("user", "<think>a</think>b")]


@pytest.mark.parametrize(
    ("turn", "key"),
    [
        ({"role": "user", "content": "x", "reasoning": "y"}, "messages[1]"),
        ({"role": "assistant", "content": "<think>a</think>b", "reasoning": "y"}, "messages[1]"),
        (
            {"role": "assistant", "content": "x", "reasoning": "y", "thinking": "z"},
            "messages[1]",
        ),
        ({"role": "assistant", "content": "x", "reasoning": 1}, "messages[1].reasoning"),
    ],
)
def test_reasoning_invalid_raises(turn: Row, key: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.openai({"messages": [turn]})
    assert caught.value.key == key


# Content


@pytest.mark.parametrize("dump", [json.dumps, str])
@pytest.mark.parametrize(
    ("function", "column"), [(formats.openai, "messages"), (formats.sharegpt, "conversations")]
)
def test_turns_as_text_of_a_table_cell_are_read(function: Any, column: str, dump: Any) -> None:
    turns = [USER, {"role": "assistant", "content": "It's 'yes'", "weight": 1}]
    assert function({column: dump(turns)}) == function({column: turns})


@pytest.mark.parametrize(
    "text", ['[{"role": "user", "role": "system", "content": "x"}]', "[NaN]", "[open('x')]"]
)
def test_turns_as_invalid_text_raise(text: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.openai({"messages": text})
    assert caught.value.key == "messages"


def test_a_number_of_thousands_of_digits_is_refused_without_printing_it() -> None:
    with pytest.raises(DataError) as caught:
        openai_turn(content=10**5000)
    assert caught.value.key == "messages[2].content"
    assert "a number that is too long to print" in str(caught.value)
