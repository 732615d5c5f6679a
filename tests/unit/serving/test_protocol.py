from typing import Any

import pytest
from pydantic import ValidationError

from xft.serving.server.protocol import (
    ApiError,
    ChatCompletionRequest,
    TextCompletionRequest,
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
