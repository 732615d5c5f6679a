"""Channels of harmony: messages of one turn become one message."""

from collections.abc import Callable
from typing import Any

import pytest
from helpers import jinja_sources

from xft.data import formats
from xft.errors import DataError
from xft.templates import ChatTemplate
from xft.types import Message, Row, ToolCall

USER = {"role": "user", "content": "Rain?"}
ANALYSIS = {"role": "assistant", "channel": "analysis", "content": "Look up."}
FINAL = {"role": "assistant", "channel": "final", "content": "No."}
CALL = {
    "role": "assistant",
    "channel": "commentary",
    "recipient": "functions.weather",
    "content_type": "json",
    "content": '{"city": "Oslo"}',
}
RESULT = {"role": "tool", "name": "functions.weather", "channel": "commentary", "content": "dry"}
WEATHER = (ToolCall("weather", {"city": "Oslo"}),)


def parse(*turns: Row) -> list[Message]:
    value = formats.openai({"messages": list(turns)})
    assert isinstance(value, list)
    return value


def test_analysis_is_the_reasoning_of_the_answer_or_call_after_it() -> None:
    assert parse(USER, ANALYSIS, CALL, RESULT, {**ANALYSIS, "content": "Dry."}, FINAL) == [
        Message("user", "Rain?"),
        Message("assistant", "", True, "Look up.", WEATHER),
        Message("tool", "dry", name="functions.weather"),
        Message("assistant", "No.", True, "Dry."),
    ]


def test_commentary_to_the_user_is_the_content_of_the_call() -> None:
    wait = {"role": "assistant", "channel": "commentary", "content": "Wait."}
    assert parse(USER, ANALYSIS, wait, CALL)[1] == Message("assistant", "Wait.", True, "Look up.", WEATHER)
    assert parse(USER, wait)[1] == Message("assistant", "Wait.", True)


def test_calls_may_be_written_as_in_the_api_of_openai() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    turn = {"role": "assistant", "channel": "commentary", "content": None, "tool_calls": [call]}
    assert parse(USER, ANALYSIS, turn)[1] == Message("assistant", "", True, "Look up.", WEATHER)


def test_channels_are_rendered_by_a_template_with_channels(make_byte_tokenizer: Callable[..., Any]) -> None:
    template = ChatTemplate(jinja_sources.CHANNELS).bind(
        make_byte_tokenizer(specials=jinja_sources.SPECIALS)
    )
    segments = template.segments(parse(USER, ANALYSIS, CALL, RESULT, FINAL))
    assert [segment.text for segment in segments if segment.is_target] == [
        "<|channel|>analysis<|message|>Look up.<|end|><|start|>assistant to=functions.weather<|channel|>commentary"
        '<|message|>{"city": "Oslo"}<|call|>',
        "<|channel|>final<|message|>No.<|return|>",
    ]


@pytest.mark.parametrize(
    ("turns", "key"),
    [
        ([USER, {**FINAL, "channel": "other"}], "messages[2].channel"),
        ([USER, ANALYSIS], "messages"),
        ([USER, ANALYSIS, USER, FINAL], "messages[3]"),
        ([USER, {**CALL, "content": "Oslo"}], "messages[2].arguments"),
        ([USER, {**CALL, "channel": "analysis"}, FINAL], "messages[2].recipient"),
        ([USER, {**ANALYSIS, "weight": 0}, FINAL], "messages[3]"),
        ([USER, {**FINAL, "channel": "commentary"}, FINAL], "messages[3]"),
    ],
)
def test_channels_that_are_no_turn_raise(turns: list[Row], key: str) -> None:
    with pytest.raises(DataError) as error:
        parse(*turns)
    assert error.value.key == key
