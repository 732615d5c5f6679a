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
def test_loss_flag_sets_is_target(key: str, value: Any, trained: bool) -> None:
    assert openai_turn(**{key: value}).is_target is trained


@pytest.mark.parametrize(
    ("turn", "key"),
    [
        ({"weight": 0.5}, "messages[2].weight"),
        ({"loss": "no"}, "messages[2].loss"),
        ({"train": []}, "messages[2].train"),
        ({"weight": 0, "loss": True}, "messages[2]"),
    ],
)
def test_loss_flag_invalid_raises(turn: Row, key: str) -> None:
    with pytest.raises(DataError) as caught:
        openai_turn(**turn)
    assert caught.value.key == key


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
        ("<think>So.", "", "<think>So."),
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


def test_text_parts_are_joined_as_they_are() -> None:
    assert (
        openai_turn(content=[{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]).content
        == "a b"
    )


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (
            [{"type": "image_url", "image_url": {"url": "x"}}],
            "messages[2].content[1].type",
        ),
        ([{"type": "text", "text": 3}], "messages[2].content[1].text"),
        (["a"], "messages[2].content[1]"),
        ([], "messages[2].content"),
    ],
)
def test_content_parts_not_text_raise(content: Any, key: str) -> None:
    with pytest.raises(DataError) as caught:
        openai_turn(content=content)
    assert caught.value.key == key


def test_a_number_of_thousands_of_digits_is_refused_without_printing_it() -> None:
    with pytest.raises(DataError) as caught:
        openai_turn(content=10**5000)
    assert caught.value.key == "messages[2].content"
    assert "a number that is too long to print" in str(caught.value)
