"""Turns: tool calls, reasoning and parts, as OpenAI and ShareGPT write them."""

from typing import Any

import pytest

from xft.data import formats
from xft.errors import DataError
from xft.types import Conversation, Message, Row, ToolCall

USER = {"role": "user", "content": "Hi"}
TOOL = {"name": "weather", "description": "Rain?", "parameters": {"type": "object", "properties": {}}}
WRAPPED = {"type": "function", "function": TOOL}


def openai_turn(**turn: Any) -> Message:
    """The one message that a turn behind a question becomes."""
    value = formats.openai({"messages": [USER, {"role": "assistant", "content": "Yes", **turn}]})
    assert isinstance(value, list)
    assert value[0] == Message("user", "Hi")
    return value[1]


def call(name: str = "weather", arguments: Any = '{"city": "Oslo"}', **more: Any) -> Row:
    return {"type": "function", "function": {"name": name, "arguments": arguments}, **more}


def calling(*calls: Row) -> Row:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(identity: str, **more: Any) -> Row:
    return {"role": "tool", "tool_call_id": identity, "content": "dry", **more}


# Tool calls


@pytest.mark.parametrize("arguments", ['{"city": "Oslo"}', {"city": "Oslo"}])
def test_arguments_are_json_or_an_object(arguments: Any) -> None:
    turn = openai_turn(content=None, tool_calls=[call(arguments=arguments, id="c1")])
    assert turn == Message("assistant", "", True, tool_calls=(ToolCall("weather", {"city": "Oslo"}, "c1"),))


def test_several_calls_stand_behind_what_is_said() -> None:
    turn = openai_turn(content="Wait.", tool_calls=[call(), call("clock", None)])
    assert turn.content == "Wait."
    assert turn.tool_calls == (ToolCall("weather", {"city": "Oslo"}), ToolCall("clock", {}))


def test_the_older_function_call_and_its_result() -> None:
    value = formats.openai(
        {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "clock", "arguments": "{}"},
                },
                {"role": "function", "name": "clock", "content": "noon"},
            ],
            "functions": [TOOL],
        }
    )
    assert isinstance(value, Conversation)
    assert value.messages[1].tool_calls == (ToolCall("clock", {}),)
    assert value.messages[2] == Message("tool", "noon", name="clock")
    assert value.tools == (WRAPPED,)


@pytest.mark.parametrize("tools", [[TOOL], [WRAPPED], f"[{TOOL}]".replace("'", '"')])
def test_functions_are_described_bare_or_wrapped_or_as_json(tools: Any) -> None:
    value = formats.openai({"messages": [USER], "tools": tools})
    assert value == Conversation([Message("user", "Hi")], (WRAPPED,))


@pytest.mark.parametrize("tools", [None, [], "", "[]", " "])
def test_no_functions_give_plain_messages(tools: Any) -> None:
    assert formats.openai({"messages": [USER], "tools": tools}) == [Message("user", "Hi")]


@pytest.mark.parametrize("order", [("1", "2"), ("2", "1")])
def test_results_keep_ids_and_names_in_any_order(order: tuple[str, str]) -> None:
    results = {"1": result("1"), "2": result("2", name="clock")}
    turns = [USER, calling(call(id="1"), call("clock", id="2")), *(results[key] for key in order)]
    value = formats.openai({"messages": turns})
    assert isinstance(value, list)
    assert [message.tool_call_id for message in value[2:]] == list(order)
    assert {message.tool_call_id: message.name for message in value[2:]} == {"1": "", "2": "clock"}


def test_source_of_a_turn_is_the_turn_of_the_row() -> None:
    turns = [
        {"role": "developer", "content": "Brief."},
        USER,
        {**calling(call(id="1")), "channel": "commentary"},
    ]
    value = formats.openai({"messages": [*turns, result("1")]})
    assert isinstance(value, list)
    sources = [message.source.fields if message.source else None for message in value]
    assert sources == [turns[0], None, turns[2], result("1")]


@pytest.mark.parametrize(
    ("turns", "key"),
    [
        (
            [USER, calling(call(id="1"), call(id="2")), result("2"), result("2")],
            "messages[4].tool_call_id",
        ),
        ([USER, calling(call(id="1")), result("9")], "messages[3].tool_call_id"),
        (
            [USER, calling(call(id="1")), result("1", name="clock")],
            "messages[3].name",
        ),
        ([USER, calling(call(arguments="{'a': 1}"))], "messages[2].tool_calls[1].function.arguments"),
        ([USER, calling(call(arguments="[1]"))], "messages[2].tool_calls[1].function.arguments"),
        (
            [USER, calling(call(arguments='{"a": 1, "a": 2}'))],
            "messages[2].tool_calls[1].function.arguments",
        ),
        ([USER, calling(call(arguments='{"a": NaN}'))], "messages[2].tool_calls[1].function.arguments"),
        ([USER, calling(call(name=""))], "messages[2].tool_calls[1].function.name"),
        ([USER, calling({"function": {"arguments": {}}})], "messages[2].tool_calls[1].function.name"),
        ([USER, calling(call(type="code"))], "messages[2].tool_calls[1].type"),
        ([USER, calling(7)], "messages[2].tool_calls[1]"),
        ([{**USER, "tool_calls": [call()]}], "messages[1]"),
        (
            [USER, {"role": "assistant", "content": None, "tool_calls": []}],
            "messages[2].content",
        ),
        ([USER, {**calling(call()), "function_call": {"name": "f"}}], "messages[2]"),
    ],
)
def test_tool_calls_invalid_raise(turns: list[Any], key: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.openai({"messages": turns})
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("tools", "key"),
    [
        (3, "tools"),
        ("{", "tools"),
        ([{"description": "x"}], "tools[1].name"),
        ([TOOL, {"name": "f", "parameters": "x"}], "tools[2].parameters"),
        ([{"type": "retrieval"}], "tools[1].type"),
    ],
)
def test_tools_invalid_raise(tools: Any, key: str) -> None:
    with pytest.raises(DataError) as caught:
        formats.openai({"messages": [USER], "tools": tools})
    assert caught.value.key == key


def test_sharegpt_calls_may_be_a_list_and_carry_a_switch() -> None:
    value = formats.sharegpt(
        {
            "conversations": [
                {"from": "human", "value": "Hi"},
                {
                    "from": "function_call",
                    "value": '[{"name": "a"}, {"name": "b", "arguments": "{}"}]',
                    "loss": 0,
                },
                {"from": "observation", "value": "1"},
            ]
        }
    )
    assert value == [
        Message("user", "Hi"),
        Message("assistant", "", False, tool_calls=(ToolCall("a", {}), ToolCall("b", {}))),
        Message("tool", "1"),
    ]


@pytest.mark.parametrize("value", ["{}", "weather(Oslo)", "[]", "7", None])
def test_a_sharegpt_call_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(DataError) as caught:
        formats.sharegpt({"conversations": [{"from": "function_call", "value": value}]})
    assert caught.value.key.startswith("conversations[1].value")
