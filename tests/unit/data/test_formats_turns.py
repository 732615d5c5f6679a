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


def test_results_take_the_names_of_their_calls() -> None:
    turns = [USER, calling(call(id="1"), call("clock", id="2")), result("1"), result("2", name="clock")]
    value = formats.openai({"messages": turns})
    assert isinstance(value, list)
    assert [each.name for each in value] == ["", "", "weather", "clock"]


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        (
            [USER, calling(call(id="1"), call(id="2")), result("2"), result("1")],
            r"messages\[4\].tool_call_id: got '1'",
        ),
        ([USER, calling(call(id="1")), result("9")], r"messages\[3\].tool_call_id: got '9'"),
        (
            [USER, calling(call(id="1")), result("1", name="clock")],
            r"\[3\].name: got 'clock', expected 'weather'",
        ),
        ([USER, calling(call(arguments="{'a': 1}"))], r"tool_calls\[1\].function.arguments: got .*as JSON"),
        ([USER, calling(call(arguments="[1]"))], r"arguments: got \[1\] \(list\), expected an object"),
        ([USER, calling(call(arguments='{"a": 1, "a": 2}'))], r"arguments: .*a key twice"),
        ([USER, calling(call(arguments='{"a": NaN}'))], "NaN is no JSON number"),
        ([USER, calling(call(name=""))], r"tool_calls\[1\].function.name: is empty"),
        ([USER, calling({"function": {"arguments": {}}})], r"tool_calls\[1\].function.name: is missing"),
        ([USER, calling(call(type="code"))], r"tool_calls\[1\].type: got 'code'"),
        ([USER, calling(7)], r"messages\[2\].tool_calls\[1\]: got 7 \(int\), expected an object"),
        ([{**USER, "tool_calls": [call()]}], r"messages\[1\]: function calls in a turn of the user"),
        (
            [USER, {"role": "assistant", "content": None, "tool_calls": []}],
            r"messages\[2\].content: is null",
        ),
        ([USER, {**calling(call()), "function_call": {"name": "f"}}], "expected one of them"),
    ],
)
def test_calls_that_do_not_fit_are_refused(turns: list[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        formats.openai({"messages": turns})


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        (3, r"tools: got 3 \(int\)"),
        ("{", "tools: got '{', expected a list of functions as JSON"),
        ([{"description": "x"}], r"tools\[1\].name: is missing"),
        ([TOOL, {"name": "f", "parameters": "x"}], r"tools\[2\].parameters: got 'x'"),
        ([{"type": "retrieval"}], r"tools\[1\].type: got 'retrieval'"),
    ],
)
def test_functions_that_do_not_fit_are_refused(tools: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        formats.openai({"messages": [USER], "tools": tools})


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
    with pytest.raises(DataError, match=r"conversations\[1\].value"):
        formats.sharegpt({"conversations": [{"from": "function_call", "value": value}]})


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
    ("turn", "said"),
    [
        ({"role": "user", "content": "x", "reasoning": "y"}, "reasoning in a turn of the user"),
        ({"role": "assistant", "content": "<think>a</think>b", "reasoning": "y"}, "expected one of them"),
        (
            {"role": "assistant", "content": "x", "reasoning": "y", "thinking": "z"},
            "reasoning and thinking differ",
        ),
        ({"role": "assistant", "content": "x", "reasoning": 1}, r"messages\[1\].reasoning: got 1 \(int\)"),
    ],
)
def test_reasoning_that_does_not_fit_is_refused(turn: Row, said: str) -> None:
    with pytest.raises(DataError, match=said):
        formats.openai({"messages": [turn]})


# Content


def test_text_parts_are_joined_as_they_are() -> None:
    assert (
        openai_turn(content=[{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]).content
        == "a b"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            [{"type": "image_url", "image_url": {"url": "x"}}],
            r"content\[1\].type: got 'image_url'.*only text",
        ),
        ([{"type": "text", "text": 3}], r"content\[1\].text: got 3 \(int\), expected text"),
        (["a"], r"content\[1\]: got 'a' \(str\), expected an object"),
        ([], r"content: got \[\] \(list\), expected text"),
    ],
)
def test_parts_that_are_no_text_are_refused(content: Any, said: str) -> None:
    with pytest.raises(DataError, match=r"field messages\[2\]." + said):
        openai_turn(content=content)


def test_a_number_of_thousands_of_digits_is_refused_without_printing_it() -> None:
    with pytest.raises(DataError, match="content: got a number that is too long to print"):
        openai_turn(content=10**5000)
