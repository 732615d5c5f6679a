"""Responses with tool calls, as the official client of OpenAI reads them."""

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import httpx
import pytest
from helpers.generators import FixedAnswerGenerator
from helpers.servers import running_server
from openai import OpenAI
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from xft.serving.server.batcher import Batcher
from xft.serving.server.requests import GenerationRequest
from xft.serving.server.responses import Choice, ResponseBuilder, Usage
from xft.serving.server.service import Limits, Service
from xft.templates import SOURCES

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}}}},
}
ANSWERS = {
    "qwen2_5_chat": 'I look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>',
    "llama3_1_chat": '{"name": "get_weather", "parameters": {"city": "Zürich"}}',
    "internlm2_chat": 'I look.<|action_start|><|plugin|>\n{"name": "get_weather", "parameters": {"city": "Zürich"}}'
    "<|action_end|>",
}


@pytest.fixture
def client_of(make_byte_tokenizer: Callable[..., Any]) -> Iterator[Callable[[str, str], OpenAI]]:
    """Start a server of a model with a template of the library that gives a fixed answer; return a client."""
    specials = (
        "<|im_start|>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|action_start|>",
        "<|plugin|>",
        "<|action_end|>",
    )
    running: list[Any] = []

    def start(template: str, answer: str) -> OpenAI:
        batcher = Batcher(4, 8)
        scripted = FixedAnswerGenerator(make_byte_tokenizer(SOURCES[template], specials), answer)
        server = running_server(Service({"m": scripted}, batcher, Limits(10_000, 2000, 4)))
        address = server.__enter__()
        running.append((server, batcher))
        return OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60)

    yield start
    for server, batcher in running:
        server.__exit__(None, None, None)
        batcher.close()


@pytest.mark.parametrize("template", sorted(ANSWERS))
def test_tool_call_is_returned_to_the_official_client(
    template: str, client_of: Callable[[str, str], OpenAI]
) -> None:
    client = client_of(template, ANSWERS[template])
    turns: list[Any] = [{"role": "user", "content": "Weather in Zürich?"}]
    tools: list[Any] = [WEATHER]
    choice = client.chat.completions.create(model="m", messages=turns, tools=tools).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == (None if template == "llama3_1_chat" else "I look.")
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Zürich"})
    assert call.id.startswith("call_")

    with client.chat.completions.stream(model="m", messages=turns, tools=tools) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.content in (None, "", choice.message.content)
    assert final.message.tool_calls is not None
    assert final.message.tool_calls[0].function.arguments == call.function.arguments

    result = {"role": "tool", "tool_call_id": call.id, "content": "20 degrees"}
    follow_up = [*turns, choice.message.model_dump(exclude_none=True), result]
    assert client.chat.completions.create(model="m", messages=follow_up, tools=tools).choices

    plain = client.chat.completions.create(model="m", messages=turns, tools=tools, tool_choice="none")
    assert plain.choices[0].finish_reason == "stop"
    assert plain.choices[0].message.tool_calls is None


def test_tools_of_a_template_without_tools_are_refused(client_of: Callable[[str, str], OpenAI]) -> None:
    client = client_of("chatml", "Hi")
    response = httpx.post(
        f"{client.base_url}chat/completions", json={**CHAT, "tools": [WEATHER]}, timeout=60
    )
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tools"


def _choice(text: str, finish_reason: str) -> Choice:
    choice = Choice(cast(GenerationRequest, None), None)  # a response does not read the request
    choice.text, choice.finish_reason = text, finish_reason
    return choice


def test_full_responses_are_valid_for_the_client_of_openai() -> None:
    usage = Usage(3, 4)
    a, b = _choice("a", "stop"), _choice("b", "length")
    chat = ChatCompletion.model_validate(ResponseBuilder("m", True).full([a], usage), strict=True)
    assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == ("a", "stop")
    assert chat.usage is not None
    assert chat.usage.total_tokens == 7
    body = ResponseBuilder("m", False).full([a, b], usage)
    text = Completion.model_validate(body, strict=True)
    assert [(choice.index, choice.text, choice.finish_reason) for choice in text.choices] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]


def test_chunks_of_a_stream_share_an_id_and_are_valid_for_the_client_of_openai() -> None:
    builder = ResponseBuilder("m", True)
    bodies = [
        builder.first_chunk(0),
        builder.text_chunk(0, "a"),
        builder.text_chunk(0, "", "stop"),
        builder.usage_chunk(Usage(3, 1)),
    ]
    first, middle, last, usage = (ChatCompletionChunk.model_validate(body) for body in bodies)
    assert len({chunk.id for chunk in (first, middle, last, usage)}) == 1
    assert (first.choices[0].delta.role, middle.choices[0].delta.role) == ("assistant", None)
    assert (middle.choices[0].delta.content, last.choices[0].finish_reason) == ("a", "stop")
    assert (usage.choices, usage.usage is not None) == ([], True)
    assert ResponseBuilder("m", False).text_chunk(0, "a")["object"] == "text_completion"
