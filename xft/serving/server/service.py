"""Request handling: API requests to generation requests, events to responses."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.background import BackgroundTask

from xft.models import TextGenerator
from xft.serving.server.batcher import Batcher, QueueFull
from xft.serving.server.delivery import EventQueue, cancel_all, collect_all, emit, stream_events
from xft.serving.server.prompt_encoding import encode_chat, encode_text
from xft.serving.server.protocol import (
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
    TextCompletionRequest,
)
from xft.serving.server.requests import GenerationEvent, GenerationRequest, Prompt, Sampling
from xft.serving.server.responses import AsciiResponse, Choice, ResponseBuilder, Usage
from xft.serving.server.tool_calls import ToolCallFormat, ToolCallParser


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Attributes:
        context_length: maximum number of tokens of a prompt and its answer.
        max_new_tokens: maximum, and default, number of tokens of an answer.
        max_choices: maximum number of answers per request.
        max_body_bytes: maximum size of the body in bytes.
    """

    context_length: int
    max_new_tokens: int
    max_choices: int
    max_body_bytes: int = 1 << 20


class Service:
    """Answers API requests.

    Args:
        models: served models by name; the chat page selects the first.
        batcher: generates the answers.
        limits: limits of every request.
        temperature: temperature of requests without one.
        system: system message of conversations without one; empty for none.
    """

    def __init__(
        self,
        models: Mapping[str, TextGenerator],
        batcher: Batcher,
        limits: Limits,
        temperature: float = 0.0,
        system: str = "",
    ) -> None:
        self.models = models
        self.system = system
        self.batcher = batcher
        self.limits = limits
        self.temperature = temperature
        self.created = int(time.time())
        self._tool_formats = {
            name: ToolCallFormat.of(generator.template) for name, generator in models.items()
        }

    def list_models(self) -> dict[str, Any]:
        """Answer ``GET /v1/models``."""
        data = [
            {
                "id": name,
                "object": "model",
                "created": self.created,
                "owned_by": "xft",
                "input_modalities": ["text"] if generator.processor is None else ["text", "image"],
            }
            for name, generator in self.models.items()
        ]
        return {"object": "list", "data": data}

    async def complete_chat(self, body: ChatCompletionRequest, request: Request) -> Response:
        """Answer ``POST /v1/chat/completions``.

        Raises:
            ApiError: the request is invalid or over a limit.
        """
        if body.max_tokens is None:
            body.max_tokens = body.max_completion_tokens
        generator = self._generator(body.model)
        self._check_limits(body, 1)
        tools = body.shown_tools()
        form = self._tool_formats[body.model] if tools else None
        if tools and form is None:
            message = (
                "tools: the chat template of the model has no tools, or writes calls in an unknown format"
            )
            raise ApiError(400, f"{message}; remove them", param="tools")
        kwargs = body.chat_template_kwargs or {}
        limit, system = self.limits.context_length, self.system
        prompt = await asyncio.to_thread(
            encode_chat, generator, body.messages, tools, limit, kwargs, system
        )

        def make_parser() -> ToolCallParser | None:
            return ToolCallParser(form, [tool["function"]["name"] for tool in tools]) if form else None

        kept = form.special_ids(generator.tokenizer) if form else ()
        return await self._respond(body, [prompt], generator, request, make_parser, kept)

    async def complete_text(self, body: TextCompletionRequest, request: Request) -> Response:
        """Answer ``POST /v1/completions``.

        Raises:
            ApiError: the request is invalid or over a limit.
        """
        generator = self._generator(body.model)
        self._check_limits(body, len(body.prompt))
        limit = self.limits.context_length
        prompts = [
            Prompt(await asyncio.to_thread(encode_text, generator, text, limit)) for text in body.prompt
        ]
        return await self._respond(body, prompts, generator, request)

    def _generator(self, name: str) -> TextGenerator:
        if name not in self.models:
            message = f"model: got {name!r:.80}; expected one of {', '.join(self.models)}"
            raise ApiError(404, message, "model_not_found", "model")
        return self.models[name]

    async def _respond(
        self,
        body: CompletionRequest,
        prompts: Sequence[Prompt],
        generator: TextGenerator,
        request: Request,
        make_parser: Callable[[], ToolCallParser | None] = lambda: None,
        kept_special_ids: Collection[int] = (),
    ) -> Response:
        """Submit one generation request per choice; return the stream or the full response."""
        loop, queue = asyncio.get_running_loop(), EventQueue()
        chat = isinstance(body, ChatCompletionRequest)

        def callback(index: int) -> Callable[[GenerationEvent], None]:
            return lambda event: emit(loop, queue, index, event)

        sampling = body.sampling(self._max_new_tokens(body, prompts), self.temperature, strip=chat)
        pairs = [(prompt, number) for prompt in prompts for number in range(body.n or 1)]
        requests = [
            GenerationRequest(
                generator,
                prompt.ids,
                _choice_sampling(sampling, number),
                callback(index),
                kept_special_ids,
                prompt.images,
            )
            for index, (prompt, number) in enumerate(pairs)
        ]
        try:
            self.batcher.submit(requests)
        except QueueFull as error:
            raise ApiError(429, f"{error}; try again later", "rate_limit_exceeded") from error
        choices = [Choice(generation, make_parser()) for generation in requests]
        builder = ResponseBuilder(body.model, chat)
        prompt_tokens = sum(len(prompt.ids) for prompt in prompts)
        if body.stream:
            include_usage = body.stream_options is not None and body.stream_options.include_usage
            stream = stream_events(choices, queue, builder, prompt_tokens if include_usage else None)
            headers = {"Cache-Control": "no-store"}
            # A client that has left before the first chunk: the stream is never begun, nor its end reached.
            end = BackgroundTask(cancel_all, choices)
            return StreamingResponse(
                stream, media_type="text/event-stream", headers=headers, background=end
            )
        await collect_all(choices, queue, request)
        usage = Usage(prompt_tokens, sum(len(generation.generated) for generation in requests))
        return AsciiResponse(builder.full(choices, usage))

    def _check_limits(self, body: CompletionRequest, num_prompts: int) -> None:
        """Check the limits that need no tokenized prompt.

        Raises:
            ApiError: the request is over a limit.
        """
        num_choices = num_prompts * (body.n or 1)
        if num_choices > self.limits.max_choices:
            param = "prompt" if num_prompts > self.limits.max_choices else "n"
            message = (
                f"got {num_choices} answers in one request; expected at most {self.limits.max_choices}"
            )
            raise ApiError(400, f"{param}: {message}", param=param)
        if (body.max_tokens or 0) > self.limits.max_new_tokens:
            message = f"max_tokens: got {body.max_tokens}; expected at most {self.limits.max_new_tokens}"
            raise ApiError(400, message, param="max_tokens")

    def _max_new_tokens(self, body: CompletionRequest, prompts: Sequence[Prompt]) -> int:
        """Return the default of ``max_tokens``.

        Raises:
            ApiError: a prompt has no tokens, or too many.
        """
        limits = self.limits
        param = "messages" if isinstance(body, ChatCompletionRequest) else "prompt"
        lengths = [len(prompt.ids) for prompt in prompts]
        longest = max(lengths)
        if not min(lengths):
            raise ApiError(400, f"{param}: got no tokens; expected at least 1", param=param)
        if longest + (body.max_tokens or 1) > limits.context_length:
            got = (
                f"{longest} tokens"
                if longest <= limits.context_length
                else f"over {limits.context_length} tokens"
            )
            message = (
                f"{param}: got {got}, with max_tokens={body.max_tokens or 1}; expected at most "
                f"{limits.context_length} in total, the context length of the model"
            )
            raise ApiError(400, message, "context_length_exceeded", param)
        return min(limits.max_new_tokens, limits.context_length - longest)


def _choice_sampling(sampling: Sampling, choice: int) -> Sampling:
    """Return the parameters of a choice: the seeds of several choices are consecutive."""
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + choice)
