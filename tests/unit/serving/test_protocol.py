from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

from xft.serving.server.protocol import (
    ApiError,
    ChatCompletionRequest,
    ResponseBuilder,
    TextCompletionRequest,
    Usage,
)

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "Hi"}


def test_sampling_of_request_without_values_uses_defaults() -> None:
    sampling = ChatCompletionRequest(**CHAT).sampling(max_tokens=7, temperature=0.5, strip=True)
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (7, 0.5, 1.0)
    assert (sampling.seed, sampling.stop, sampling.strip) == (None, (), True)


def test_sampling_of_request_keeps_zero_temperature_and_wraps_one_stop_text() -> None:
    request = TextCompletionRequest(**TEXT, temperature=0, top_p=0.9, seed=3, stop="END", max_tokens=2)
    sampling = request.sampling(max_tokens=7, temperature=0.5, strip=False)
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (2, 0.0, 0.9)
    assert (sampling.seed, sampling.stop) == (3, ("END",))


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"max_tokens": 0},
        {"n": 0},
        {"stop": [""]},
        {"frequency_penalty": 0.5},
        {"logit_bias": {"5": 1.0}},
        {"tools": [{"type": "function"}]},
        {"logprobs": True},
        {"messages": []},
        {"best_of": 2},
    ],
)
def test_value_without_support_or_out_of_range_is_refused(change: dict[str, Any]) -> None:
    [field] = change
    with pytest.raises(ValidationError) as error:
        ChatCompletionRequest(**CHAT | change)
    assert {mistake["loc"][0] for mistake in error.value.errors()} == {field}


def test_values_without_effect_are_accepted() -> None:
    ChatCompletionRequest(
        **CHAT, frequency_penalty=0, logit_bias={}, tools=[], user="me", response_format={"type": "text"}
    )


def test_full_responses_are_valid_for_the_client_of_openai() -> None:
    usage = Usage(3, 4)
    chat = ChatCompletion.model_validate(
        ResponseBuilder("m", True).full(["a"], ["stop"], usage), strict=True
    )
    assert (chat.choices[0].message.content, chat.choices[0].finish_reason) == ("a", "stop")
    assert chat.usage is not None
    assert chat.usage.total_tokens == 7
    body = ResponseBuilder("m", False).full(["a", "b"], ["stop", "length"], usage)
    text = Completion.model_validate(body, strict=True)
    assert [(choice.index, choice.text, choice.finish_reason) for choice in text.choices] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]


def test_chunks_of_a_stream_share_an_id_and_are_valid_for_the_client_of_openai() -> None:
    builder = ResponseBuilder("m", True)
    bodies = [
        builder.chunk(0, "", first=True),
        builder.chunk(0, "a"),
        builder.chunk(0, "", "stop"),
        builder.usage_chunk(Usage(3, 1)),
    ]
    first, middle, last, usage = (ChatCompletionChunk.model_validate(body) for body in bodies)
    assert len({chunk.id for chunk in (first, middle, last, usage)}) == 1
    assert (first.choices[0].delta.role, middle.choices[0].delta.role) == ("assistant", None)
    assert (middle.choices[0].delta.content, last.choices[0].finish_reason) == ("a", "stop")
    assert (usage.choices, usage.usage is not None) == ([], True)
    assert ResponseBuilder("m", False).chunk(0, "a")["object"] == "text_completion"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_error_body_has_the_type_of_its_status(status: int, kind: str) -> None:
    assert ApiError(status, "text", "code", "field").to_dict() == {
        "error": {"message": "text", "type": kind, "param": "field", "code": "code"}
    }
