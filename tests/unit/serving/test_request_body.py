"""Bodies of requests: every field with bad values, and bodies that are no JSON object."""

import json
import time
from typing import Any

import pytest

from xft.serving.server.protocol import ApiError, ChatCompletionRequest, TextCompletionRequest
from xft.serving.server.request_body import MAX_DEPTH, parse_body

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "Hi"}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"stop": "a" * 1_000_000}, "stop[1]: got 'aaa"),
        (
            {"stop": ["a"] * 9},
            "stop: got ['a', 'a', 'a', 'a', 'a', 'a', ...]; expected a list with at most 8 items",
        ),
        ({"stop": [""]}, "stop[1]: got ''; expected a text with at least 1 character"),
        (
            {"seed": 2**63},
            "seed: got 9223372036854775808; expected less than or equal to 9223372036854775807",
        ),
        ({"max_tokens": True}, "max_tokens: got True; expected a valid integer"),
        ({"max_tokens": "5"}, "max_tokens: got '5'; expected a valid integer"),
        ({"temperature": float("nan")}, "temperature: got nan; expected a finite number"),
        (
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[1].function.name: got 'a b'",
        ),
        ({"tools": [{"type": "function"}]}, "tools[1].function: is missing"),
        ({"tool_choice": "required"}, "tool_choice: got 'required'; expected 'auto' or 'none'"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice: got {"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls: got False; expected true"),
        (
            {"response_format": {"type": "json_object"}},
            "response_format: got {'type': 'json_object'}; expected {'type': 'text'}",
        ),
        ({"logit_bias": {"5": 1}}, "logit_bias: got {'5': 1}; expected no entries"),
        ({"frequency_penalty": False}, "frequency_penalty: got False; expected 0"),
        ({"logprobs": True}, "logprobs: got True; expected false"),
        ({"best": 1}, "best: is not supported; remove it"),
        ({"x" * 500: 1}, "xxx"),
        (
            {"messages": [{"role": "user", "content": "\ud800"}]},
            "messages[1].content: got '\\ud800'; expected text without",
        ),
        ({"metadata": {"\udcff": "x"}}, "metadata"),
        ({"messages": None}, "messages: got None; expected a valid list"),
    ],
)
def test_mistake_names_the_field_and_the_value(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_body(json.dumps({**CHAT, **change}).encode(), ChatCompletionRequest)
    assert caught.value.status == 400
    assert caught.value.message.startswith(text)
    assert len(caught.value.message) < 400
    (name,) = change
    assert caught.value.param == name or len(name) > 100


@pytest.mark.parametrize(
    "change", [{"prompt": ["a", 5]}, {"prompt": {}}, {"prompt": 5}, {"prompt": ""}, {"prompt": []}]
)
def test_mistake_in_prompt_has_no_name_of_a_type(change: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as caught:
        parse_body(json.dumps({**TEXT, **change}).encode(), TextCompletionRequest)
    assert caught.value.param == "prompt"
    assert ".str" not in caught.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"stop": ""},
        {"stop": []},
        {"stop": "a"},
        {"tools": []},
        {"tool_choice": "auto"},
        {"tool_choice": "none"},
        {"response_format": {"type": "text"}},
        {"logit_bias": {}},
        {"frequency_penalty": 0.0},
        {"top_p": 1},
        {"metadata": {"a": "b"}},
        *({name: None} for name in ChatCompletionRequest.model_fields if name not in CHAT),
    ],
)
def test_values_without_effect_are_accepted(change: dict[str, Any]) -> None:
    parse_body(json.dumps({**CHAT, **change}).encode(), ChatCompletionRequest)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'"\xff"', "not UTF-8"),
        (b"[" * 500_000, "nested too deeply"),
        (b"[]", "expected a JSON object"),
        (b"null", "expected a JSON object"),
    ],
)
def test_body_that_is_no_object_is_reported(content: bytes, reason: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ApiError) as caught:
        parse_body(content, ChatCompletionRequest)
    assert (caught.value.status, caught.value.param) == (400, None)
    assert caught.value.message.startswith("body: ")
    assert reason in caught.value.message
    assert time.perf_counter() - start < 1


def test_deep_value_names_its_field() -> None:
    value: Any = "x"
    for _ in range(MAX_DEPTH):
        value = [value]
    with pytest.raises(ApiError) as caught:
        parse_body(
            json.dumps({**CHAT, "messages": [{"role": "user", "x": value}]}).encode(), ChatCompletionRequest
        )
    assert caught.value.param == "messages"


def test_shown_tools_omit_strict_and_follow_tool_choice() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2}, "strict": False}}
    body = parse_body(json.dumps({**CHAT, "tools": [tool]}).encode(), ChatCompletionRequest)
    shown = {"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2}}}
    assert json.dumps(body.shown_tools()) == json.dumps([shown])
    body.tool_choice = "none"
    assert body.shown_tools() == []
