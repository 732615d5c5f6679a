"""Request handling: API requests to generation requests, events to responses."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from xft.data.formats.chat import openai
from xft.errors import DataError
from xft.models import TextGenerator
from xft.models.generation import FinishReason
from xft.serving.server.batcher import Batcher, QueueFull
from xft.serving.server.protocol import (
    ApiError,
    ChatCompletionRequest,
    CompletionRequest,
    ResponseBuilder,
    TextCompletionRequest,
    Usage,
    error_body,
)
from xft.serving.server.requests import GenerationEvent, GenerationRequest, Sampling
from xft.types import Conversation

EventQueue = asyncio.Queue[tuple[int, GenerationEvent]]
"""Events of a request, each with the index of its choice."""


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
    """

    def __init__(
        self,
        models: Mapping[str, TextGenerator],
        batcher: Batcher,
        limits: Limits,
        temperature: float = 0.0,
    ) -> None:
        self.models = models
        self.batcher = batcher
        self.limits = limits
        self.temperature = temperature
        self.created = int(time.time())

    def list_models(self) -> dict[str, Any]:
        """Answer ``GET /v1/models``."""
        data = [
            {"id": name, "object": "model", "created": self.created, "owned_by": "xft"}
            for name in self.models
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
        try:
            messages = openai({"messages": body.messages})
            if isinstance(messages, Conversation) or messages[-1].role not in ("user", "tool"):
                raise ApiError(
                    400, "messages: expected a user or tool message at the end", param="messages"
                )
            prompt = generator.encode(messages)
        except DataError as error:
            raise ApiError(400, str(error), param="messages") from error
        return await self._respond(body, [prompt], generator, True, request)

    async def complete_text(self, body: TextCompletionRequest, request: Request) -> Response:
        """Answer ``POST /v1/completions``.

        Raises:
            ApiError: the request is invalid or over a limit.
        """
        generator = self._generator(body.model)
        texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        prompts = [_encode_text(generator, text) for text in texts]
        return await self._respond(body, prompts, generator, False, request)

    def _generator(self, name: str) -> TextGenerator:
        if name not in self.models:
            message = f"model: got {name!r}; expected one of {', '.join(self.models)}"
            raise ApiError(404, message, "model_not_found", "model")
        return self.models[name]

    async def _respond(
        self,
        body: CompletionRequest,
        prompts: Sequence[list[int]],
        generator: TextGenerator,
        chat: bool,
        request: Request,
    ) -> Response:
        """Submit one generation request per choice; return the stream or the full response."""
        loop, queue = asyncio.get_running_loop(), EventQueue()

        def callback(index: int) -> Callable[[GenerationEvent], None]:
            return lambda event: _emit(loop, queue, index, event)

        sampling = body.sampling(self._max_new_tokens(body, prompts), self.temperature, strip=chat)
        choices = [(prompt, choice) for prompt in prompts for choice in range(body.n or 1)]
        requests = [
            GenerationRequest(generator, prompt, _choice_sampling(sampling, choice), callback(index))
            for index, (prompt, choice) in enumerate(choices)
        ]
        try:
            self.batcher.submit(requests)
        except QueueFull as error:
            raise ApiError(429, f"{error}; try again later", "rate_limit_exceeded") from error
        builder = ResponseBuilder(body.model, chat)
        prompt_tokens = sum(map(len, prompts))
        if body.stream:
            include_usage = body.stream_options is not None and body.stream_options.include_usage
            stream = _stream(requests, queue, builder, prompt_tokens if include_usage else None)
            headers = {"Cache-Control": "no-store"}
            return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
        texts, finish_reasons = await _await_all(requests, queue, request)
        usage = Usage(prompt_tokens, sum(len(generation.generated) for generation in requests))
        return JSONResponse(builder.full(texts, finish_reasons, usage))

    def _max_new_tokens(self, body: CompletionRequest, prompts: Sequence[list[int]]) -> int:
        """Return the default of ``max_tokens``.

        Raises:
            ApiError: the request is over a limit.
        """
        limits = self.limits
        num_choices = len(prompts) * (body.n or 1)
        if num_choices > limits.max_choices:
            message = f"n: got {num_choices} answers in one request; expected at most {limits.max_choices}"
            raise ApiError(400, message, param="n")
        if (body.max_tokens or 0) > limits.max_new_tokens:
            message = f"max_tokens: got {body.max_tokens}; expected at most {limits.max_new_tokens}"
            raise ApiError(400, message, param="max_tokens")
        longest = max(map(len, prompts))
        if not min(map(len, prompts)):
            raise ApiError(400, "prompt: got no tokens; expected at least 1", param="prompt")
        if longest + (body.max_tokens or 1) > limits.context_length:
            param = "messages" if isinstance(body, ChatCompletionRequest) else "prompt"
            message = (
                f"{param}: got {longest} tokens, with max_tokens={body.max_tokens or 1}; expected at most "
                f"{limits.context_length} in total, the context length of the model"
            )
            raise ApiError(400, message, "context_length_exceeded", param)
        return min(limits.max_new_tokens, limits.context_length - longest)


def _encode_text(generator: TextGenerator, text: str) -> list[int]:
    """Tokenize a text; special tokens are added unless the text already starts with the BOS token."""
    bos = generator.tokenizer.bos_token
    add_special_tokens = not (bos and text.startswith(bos))
    return list(generator.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])


def _choice_sampling(sampling: Sampling, choice: int) -> Sampling:
    """Return the parameters of a choice: the seeds of several choices are consecutive."""
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + choice)


def _emit(loop: asyncio.AbstractEventLoop, queue: EventQueue, index: int, event: GenerationEvent) -> None:
    """Queue an event from another thread."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(queue.put_nowait, (index, event))


async def _await_all(
    requests: Sequence[GenerationRequest], queue: EventQueue, request: Request
) -> tuple[list[str], list[FinishReason | None]]:
    """Collect all answers; cancel them if the client disconnects.

    Raises:
        ApiError: an answer failed, or the client disconnected.
    """
    texts = [""] * len(requests)
    finish_reasons: list[FinishReason | None] = [None] * len(requests)
    num_open = len(requests)
    try:
        while num_open:
            try:
                index, event = await asyncio.wait_for(queue.get(), timeout=1)
            except TimeoutError:
                if await request.is_disconnected():
                    raise ApiError(499, "the client disconnected") from None
                continue
            if event.error is not None:
                raise ApiError(500, event.error)
            texts[index] += event.text
            if event.finish_reason is not None:
                finish_reasons[index] = event.finish_reason
                num_open -= 1
    finally:
        for generation in requests:
            generation.cancel()
    return texts, finish_reasons


async def _stream(
    requests: Sequence[GenerationRequest],
    queue: EventQueue,
    builder: ResponseBuilder,
    prompt_tokens: int | None,
) -> AsyncIterator[str]:
    """Stream answers as server-sent events; cancel them if the client disconnects.

    Args:
        requests: one generation request per choice.
        queue: their events.
        builder: builds the chunks.
        prompt_tokens: number of tokens of the prompts; ``None`` to omit the chunk with the usage.
    """
    num_open = len(requests)
    try:
        if builder.chat:
            for index in range(len(requests)):
                yield _server_sent_event(builder.chunk(index, "", first=True))
        while num_open:
            index, event = await queue.get()
            if event.error is not None:
                yield _server_sent_event(error_body(500, event.error))
                return
            if event.text:
                yield _server_sent_event(builder.chunk(index, event.text))
            if event.finish_reason is not None:
                num_open -= 1
                yield _server_sent_event(builder.chunk(index, "", event.finish_reason))
        if prompt_tokens is not None:
            completion_tokens = sum(len(generation.generated) for generation in requests)
            yield _server_sent_event(builder.usage_chunk(Usage(prompt_tokens, completion_tokens)))
        yield "data: [DONE]\n\n"
    finally:
        for generation in requests:
            generation.cancel()


def _server_sent_event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
