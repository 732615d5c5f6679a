"""Requests of the supported part of OpenAI's API, and its errors. Unsupported fields are errors."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from xft.serving.server.requests import Sampling

MAX_ITEMS = 128
"""Maximum number of prompts, answers and tools of a request."""
MAX_MESSAGES = 1000
MAX_INT64 = 2**63 - 1


def only(*values: object, reason: str) -> BeforeValidator:
    """Return a validator of a field with few supported values; ``null`` is the default of the API.

    Args:
        values: supported values.
        reason: why others are not supported, after ``expected``.
    """

    def check(value: object) -> object:
        known = any(isinstance(value, bool) is isinstance(item, bool) and value == item for item in values)
        if value is not None and not known:
            raise PydanticCustomError("unsupported", "{reason}", {"reason": f"expected {reason}"})
        return value

    return BeforeValidator(check)


def _as_list(value: object) -> object:
    """Return a text as a list of one; empty texts as no text."""
    return ([value] if value else []) if isinstance(value, str) else value


Integer = Annotated[int, Field(ge=1, le=MAX_INT64)]
Stop = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=8)]
ZeroPenalty = Annotated[object, only(0, reason="0: penalties are not supported")]


class ApiModel(BaseModel):
    """Object of the API: other fields, and values of other JSON types, are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(ApiModel):
    """Options of a streamed response."""

    include_usage: bool = False
    include_obfuscation: bool = False


class CompletionRequest(ApiModel):
    """Fields common to both kinds of completion requests."""

    model: Annotated[str, Field(max_length=1000)]
    max_tokens: Integer | None = None
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_ITEMS)] | None = None
    seed: Annotated[int, Field(ge=-MAX_INT64 - 1, le=MAX_INT64)] | None = None
    stop: Annotated[Stop | None, BeforeValidator(_as_list)] = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Accepted and ignored: no effect on an answer.
    user: Annotated[str, Field(max_length=1000)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            Field(max_length=16),
        ]
        | None
    ) = None
    store: bool | None = None
    # Unsupported: accepted only with the value that has no effect.
    frequency_penalty: ZeroPenalty = None
    presence_penalty: ZeroPenalty = None
    logit_bias: Annotated[object, only({}, reason="no entries: biases are not supported")] = None

    def sampling(self, max_tokens: int, temperature: float, strip: bool) -> Sampling:
        """Return the sampling parameters.

        Args:
            max_tokens: default of the maximum number of tokens.
            temperature: default of the temperature.
            strip: remove white space at both ends.
        """
        return Sampling(
            max_tokens=self.max_tokens or max_tokens,
            temperature=temperature if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=tuple(self.stop or ()),
            strip=strip,
        )


class Function(ApiModel):
    """Function that the model may call."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Annotated[object, only(False, reason="false: arguments are not constrained to the schema")] = (
        None
    )


class Tool(ApiModel):
    """Tool of a chat completion request."""

    type: Literal["function"]
    function: Function


class ChatCompletionRequest(CompletionRequest):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Integer | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_ITEMS)] | None = None
    tool_choice: Annotated[
        object, only("auto", "none", reason="'auto' or 'none': calls are not forced")
    ] = None
    parallel_tool_calls: Annotated[
        object, only(True, reason="true: the number of calls is not limited")
    ] = None
    response_format: Annotated[
        object,
        only({"type": "text"}, reason="{'type': 'text'}: JSON is not enforced; ask for it in a message"),
    ] = None
    logprobs: Annotated[object, only(False, reason="false: log-probabilities are not returned")] = None
    # As in vLLM: variables of the chat template.
    chat_template_kwargs: Annotated[dict[str, Any], Field(max_length=64)] | None = None

    def shown_tools(self) -> list[dict[str, Any]]:
        """Return the tools that the model may call, as the chat template reads them."""
        tools = [] if self.tool_choice == "none" else self.tools or []
        return [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in tools]


class TextCompletionRequest(CompletionRequest):
    """``POST /v1/completions``."""

    prompt: Annotated[list[str], Field(min_length=1, max_length=MAX_ITEMS), BeforeValidator(_as_list)]
    echo: Annotated[object, only(False, reason="false: the prompt is not repeated")] = None
    best_of: Annotated[object, only(1, reason="1: answers are not ranked")] = None
    logprobs: Annotated[object, only(reason="null: log-probabilities are not returned")] = None
    suffix: Annotated[object, only("", reason="no text: text is not inserted before a suffix")] = None


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
