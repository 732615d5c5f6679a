"""What OpenAI's API takes and gives, as far as it is served. Anything else is refused, not passed over."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from xft.serving.server.requests import Finish, Sampling

Temperature = Annotated[float, Field(ge=0, le=10)]
TopP = Annotated[float, Field(gt=0, le=1)]
Stop = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=8)]


class StreamOptions(BaseModel):
    """What a stream brings beside the answer."""

    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    include_obfuscation: bool = False


class Asked(BaseModel):
    """What both kinds of request have in common."""

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
    # What changes nothing in an answer may be sent.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    # What would change it, and is not served, may be sent only with the value that changes nothing.
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    def sampling(self, limit: int, temperature: float, strip: bool) -> Sampling:
        """How the answer is to be made.

        Args:
            limit: the most tokens, where the request does not say.
            temperature: where the request does not say.
            strip: leave out white space at the ends.
        """
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            max_tokens=self.max_tokens or limit,
            temperature=temperature if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=tuple(each for each in stop if each),
            strip=strip,
        )


class ChatAsked(Asked):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Literal[False] | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=0)] | None = None
    response_format: Mapping[Literal["type"], Literal["text"]] | None = None


class TextAsked(Asked):
    """``POST /v1/completions``."""

    prompt: str | Annotated[list[str], Field(min_length=1)]
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    logprobs: None = None
    suffix: None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens went in and came out."""

    prompt: int
    completion: int

    def to_dict(self) -> dict[str, int]:
        """As the API has it."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }


class Writer:
    """Writes the objects of one answer.

    Args:
        model: who answers.
        chat: whether it is of a chat, and not of a text.
    """

    def __init__(self, model: str, chat: bool) -> None:
        self.chat = chat
        self._common = {
            "id": ("chatcmpl-" if chat else "cmpl-") + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": model,
        }

    def whole(
        self, texts: Sequence[str], finishes: Sequence[Finish | None], usage: Usage
    ) -> dict[str, Any]:
        """The answer in one piece."""
        choices: list[dict[str, Any]] = []
        for index, (text, finish) in enumerate(zip(texts, finishes, strict=True)):
            said: dict[str, Any] = {"text": text}
            if self.chat:
                said = {"message": {"role": "assistant", "content": text, "refusal": None}}
            choices.append({"index": index, **said, "logprobs": None, "finish_reason": finish})
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._common, "object": kind, "choices": choices, "usage": usage.to_dict()}

    def piece(
        self, index: int, text: str, finish: Finish | None = None, first: bool = False
    ) -> dict[str, Any]:
        """A piece of the answer ``index``."""
        said: dict[str, Any] = {"text": text}
        if self.chat:
            said = {"delta": {"role": "assistant", "content": text} if first else {"content": text}}
        choice = {"index": index, **said, "logprobs": None, "finish_reason": finish}
        return {**self._common, "object": self._chunk, "choices": [choice]}

    def usage(self, usage: Usage) -> dict[str, Any]:
        """The last piece, where it was asked for."""
        return {**self._common, "object": self._chunk, "choices": [], "usage": usage.to_dict()}

    @property
    def _chunk(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"


@dataclass
class ApiError(Exception):
    """What a client did wrong, or what the server cannot do now.

    Attributes:
        status: of HTTP.
        message: what was got, what was expected, what to do.
        code: that programs look at.
        param: which part of the request.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As the API has it."""
        return error_body(self.status, self.message, self.code, self.param)


def error_body(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """The body of an answer that says what went wrong."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
