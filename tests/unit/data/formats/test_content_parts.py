"""Content of a turn: text, lists of parts of several frameworks, and media."""

from typing import Any

import pytest

from xft.data import formats
from xft.data.formats.content_parts import Content, get_content
from xft.data.formats.turn_keys import MEDIA_KEYS
from xft.errors import DataError
from xft.types import Message, Row, ToolCall

USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Yes", Content("Yes")),
        ([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}], Content("a b")),
        ([{"type": "text", "value": "a "}, {"type": "text", "value": "b"}], Content("a b")),
        ([{"type": "thinking", "thinking": "So."}, {"type": "text", "text": "Yes"}], Content("Yes", "So.")),
        ([{"type": "reasoning", "value": "So."}, {"type": "text", "value": "Yes"}], Content("Yes", "So.")),
        (
            [{"type": "tool_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'}],
            Content("", "", (ToolCall("weather", {"city": "Oslo"}),)),
        ),
    ],
)
def test_content_is_text_or_parts(content: Any, expected: Content) -> None:
    assert get_content({"content": content}, "content", "messages[2]", optional=False) == expected


def test_row_of_llamafactory_v1_is_read() -> None:
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "value": "Hi"}], "loss_weight": 0.0},
            {
                "role": "assistant",
                "content": [{"type": "reasoning", "value": "So."}, {"type": "text", "value": "Hello"}],
                "loss_weight": 1.0,
            },
        ]
    }
    expected = [Message("user", "Hi"), Message("assistant", "Hello", True, "So.")]
    assert formats.openai(row) == expected
    assert formats.sharegpt({"conversations": row["messages"]}) == expected


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ([{"type": "image_url", "image_url": {"url": 3}}], "messages[2].content[1].image_url.url"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], "messages[2]"),
        ([{"type": "image", "image": "x", "path": "y"}], "messages[2].content[1]"),
        ([{"type": "video", "video": "x"}], "messages[2].content[1].type"),
        ([{"type": "input_audio", "input_audio": {}}], "messages[2].content[1].type"),
        ([{"type": "text", "text": 3}], "messages[2].content[1].text"),
        ([{"type": "text"}], "messages[2].content[1].text"),
        (["a"], "messages[2].content[1]"),
        ([], "messages[2].content"),
    ],
)
def test_unsupported_part_raises(content: Any, key: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.openai({"messages": [USER, {"role": "assistant", "content": content}]})
    assert caught.value.key == key


@pytest.mark.parametrize("key", MEDIA_KEYS)
@pytest.mark.parametrize(
    ("function", "column"), [(formats.openai, "messages"), (formats.sharegpt, "conversations")]
)
def test_media_in_a_turn_raises(function: Any, column: str, key: str) -> None:
    turn: Row = {"role": "user", "content": "<image> What is this?", key: ["cat.png"]}
    with pytest.raises(DataError) as caught:
        function({column: [turn, {"role": "assistant", "content": "A cat"}]})
    assert caught.value.key == f"{column}[1].{key}"
    assert function({column: [turn | {key: None}]})[0].content == turn["content"]


def test_reasoning_in_two_places_raises() -> None:
    turn = {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "a"}, {"type": "text", "text": "b"}],
        "reasoning": "c",
    }
    with pytest.raises(DataError) as caught:
        formats.openai({"messages": [USER, turn]})
    assert caught.value.key == "messages[2]"
