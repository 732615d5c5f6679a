"""Requests and responses of the supported part of OpenAI's API. Unsupported fields are errors."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from xft.models.generation import FinishReason
from xft.serving.server.requests import Sampling

Temperature = Annotated[float, Field(ge=0, le=10)]
TopP = Annotated[float, Field(gt=0, le=1)]
Stop = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=8)]


class StreamOptions(BaseModel):
    """Options of a streamed response."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_obfuscation: bool = False


class CompletionRequest(BaseModel):
    """Fields common to both kinds of completion requests."""

    model_config = ConfigDict(extra="forbid")
    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    stop: str | Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Accepted and ignored: no effect on an answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    # Unsupported: accepted only with the value that has no effect.
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    def sampling(self, max_tokens: int, temperature: float, strip: bool) -> Sampling:
        """Return the sampling parameters.

        Args:
            max_tokens: default of the maximum number of tokens.
            temperature: default of the temperature.
            strip: remove white space at both ends.
        """
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=self.max_tokens or max_tokens,
            temperature=temperature if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=tuple(text for text in stop if text),
            strip=strip,
        )


class ChatCompletionRequest(CompletionRequest):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Literal[False] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=0)] | None = None
    response_format: Mapping[Literal["type"], Literal["text"]] | None = None


class TextCompletionRequest(CompletionRequest):
    """``POST /v1/completions``."""

    prompt: str | Annotated[list[str], Field(min_length=1)]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    logprobs: None = None
    suffix: None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a request.

    Attributes:
        prompt_tokens: number of tokens of the prompts.
        completion_tokens: number of generated tokens.
    """

    prompt_tokens: int
    completion_tokens: int

    def to_dict(self) -> dict[str, int]:
        """Return the ``usage`` object of the API."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }


class ResponseBuilder:
    """Builds the response objects of one request.

    Args:
        model: name of the model.
        chat: whether the request is a chat completion, not a text completion.
    """

    def __init__(self, model: str, chat: bool) -> None:
        self.chat = chat
        self._common = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": model,
        }

    def full(
        self, texts: Sequence[str], finish_reasons: Sequence[FinishReason | None], usage: Usage
    ) -> dict[str, Any]:
        """Build the response without streaming."""
        choices: list[dict[str, Any]] = []
        for index, (text, finish_reason) in enumerate(zip(texts, finish_reasons, strict=True)):
            content: dict[str, Any] = {"text": text}
            if self.chat:
                content = {"message": {"role": "assistant", "content": text, "refusal": None}}
            choices.append({"index": index, **content, "logprobs": None, "finish_reason": finish_reason})
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._common, "object": kind, "choices": choices, "usage": usage.to_dict()}

    def chunk(
        self, index: int, text: str, finish_reason: FinishReason | None = None, first: bool = False
    ) -> dict[str, Any]:
        """Build a chunk of the streamed choice ``index``; the ``first`` chunk of a chat has the role."""
        content: dict[str, Any] = {"text": text}
        if self.chat:
            content = {"delta": {"role": "assistant", "content": text} if first else {"content": text}}
        choice = {"index": index, **content, "logprobs": None, "finish_reason": finish_reason}
        return {**self._common, "object": self._chunk_object, "choices": [choice]}

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Build the last chunk of a stream with ``include_usage``."""
        return {**self._common, "object": self._chunk_object, "choices": [], "usage": usage.to_dict()}

    @property
    def _chunk_object(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"


@dataclass
class ApiError(Exception):
    """Error response of the API.

    Attributes:
        status: HTTP status.
        message: text for the user.
        code: identifier for programs.
        param: field of the request with the mistake.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the response."""
        return error_body(self.status, self.message, self.code, self.param)


def error_body(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Build the body of an error response."""
    types = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    error_type = types.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": error_type, "param": param, "code": code}}
