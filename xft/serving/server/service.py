"""What is asked becomes jobs, and their news become answers."""

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
from xft.serving.server.batcher import Batcher, Full
from xft.serving.server.protocol import ApiError, Asked, ChatAsked, TextAsked, Usage, Writer, error_body
from xft.serving.server.requests import Event, Finish, Job, Sampling
from xft.types import Conversation


@dataclass(frozen=True)
class Limits:
    """What a client may ask for.

    Attributes:
        context: tokens of a prompt and its answer together.
        new_tokens: of an answer; also what it gets where the request does not say.
        choices: answers in one request.
        body: bytes of a request.
    """

    context: int
    new_tokens: int
    choices: int
    body: int = 1 << 20


class Service:
    """Turns requests into answers.

    Args:
        models: who answers, by name; the first is the default of the page.
        batcher: who generates.
        limits: that hold for every request.
        temperature: where a request does not say.
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
        self.since = int(time.time())

    def list_models(self) -> dict[str, Any]:
        """``/v1/models``."""
        data = [
            {"id": name, "object": "model", "created": self.since, "owned_by": "xft"}
            for name in self.models
        ]
        return {"object": "list", "data": data}

    async def chat(self, asked: ChatAsked, request: Request) -> Response:
        """``/v1/chat/completions``."""
        if asked.max_tokens is None:
            asked.max_tokens = asked.max_completion_tokens
        generator = self._model(asked.model)
        try:
            turns = openai({"messages": asked.messages})
            if isinstance(turns, Conversation) or turns[-1].role not in ("user", "tool"):
                raise ApiError(400, "messages: the last turn must be the user's", param="messages")
            prompt = generator.encode(turns)
        except DataError as error:
            raise ApiError(400, str(error), param="messages") from error
        return await self._answer(asked, [prompt], generator, True, request)

    async def text(self, asked: TextAsked, request: Request) -> Response:
        """``/v1/completions``."""
        generator = self._model(asked.model)
        texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        prompts = [_ids(generator, each) for each in texts]
        return await self._answer(asked, prompts, generator, False, request)

    def _model(self, name: str) -> TextGenerator:
        if name not in self.models:
            known = ", ".join(self.models)
            raise ApiError(
                404, f"model: there is no {name!r} here; there is: {known}", "model_not_found", "model"
            )
        return self.models[name]

    async def _answer(
        self,
        asked: Asked,
        prompts: Sequence[list[int]],
        generator: TextGenerator,
        chat: bool,
        request: Request,
    ) -> Response:
        loop, news = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event]]()

        def teller(index: int) -> Callable[[Event], None]:
            return lambda event: _tell(loop, news, (index, event))

        room = self._room(asked, prompts)
        base = asked.sampling(room, self.temperature, strip=chat)
        wanted = [(prompt, choice) for prompt in prompts for choice in range(asked.n or 1)]
        jobs = [
            Job(generator, prompt, _seeded(base, choice), teller(index))
            for index, (prompt, choice) in enumerate(wanted)
        ]
        try:
            self.batcher.submit(jobs)
        except Full as error:
            raise ApiError(429, f"{error}; try again later", "rate_limit_exceeded") from error
        writer = Writer(asked.model, chat)
        counted = sum(map(len, prompts))
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            body = _stream(jobs, news, writer, counted if usage else None)
            return StreamingResponse(
                body, media_type="text/event-stream", headers={"Cache-Control": "no-store"}
            )
        texts, finishes = await _collect(jobs, news, request)
        used = Usage(counted, sum(len(each.generated) for each in jobs))
        return JSONResponse(writer.whole(texts, finishes, used))

    def _room(self, asked: Asked, prompts: Sequence[list[int]]) -> int:
        """The most tokens of an answer, where the request does not say.

        Raises:
            ApiError: the request is beyond a limit.
        """
        most = self.limits
        if len(prompts) * (asked.n or 1) > most.choices:
            raise ApiError(
                400, f"n: at most {most.choices} answers in a request are served here", param="n"
            )
        if (asked.max_tokens or 0) > most.new_tokens:
            raise ApiError(
                400,
                f"max_tokens: got {asked.max_tokens}, at most {most.new_tokens} are served here",
                param="max_tokens",
            )
        longest = max(map(len, prompts))
        if not min(map(len, prompts)):
            raise ApiError(400, "prompt: it has no tokens", param="prompt")
        if longest + (asked.max_tokens or 1) > most.context:
            raise ApiError(
                400,
                f"the prompt has {longest} tokens, and with max_tokens={asked.max_tokens or 1} the context of "
                f"{most.context} tokens is too small",
                "context_length_exceeded",
                "messages" if isinstance(asked, ChatAsked) else "prompt",
            )
        return min(most.new_tokens, most.context - longest)


def _ids(generator: TextGenerator, text: str) -> list[int]:
    """The tokens of a plain text, with what the tokenizer puts before each text, unless it is there."""
    bos = getattr(generator.tokenizer, "bos_token", None)
    plain = not (bos and text.startswith(bos))
    return list(generator.tokenizer(text, add_special_tokens=plain)["input_ids"])


def _seeded(sampling: Sampling, choice: int) -> Sampling:
    """Several answers to one prompt are drawn with seeds that follow one another."""
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + choice)


def _tell(loop: asyncio.AbstractEventLoop, news: asyncio.Queue[Any], item: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(news.put_nowait, item)


async def _collect(
    jobs: Sequence[Job], news: asyncio.Queue[tuple[int, Event]], request: Request
) -> tuple[list[str], list[Finish | None]]:
    """Wait for all answers, for as long as the client does."""
    texts, finishes = [""] * len(jobs), [None] * len(jobs)
    left = len(jobs)
    try:
        while left:
            try:
                index, event = await asyncio.wait_for(news.get(), timeout=1)
            except TimeoutError:
                if await request.is_disconnected():
                    raise ApiError(499, "the client has left") from None
                continue
            if event.error is not None:
                raise ApiError(500, event.error)
            texts[index] += event.text
            if event.finish is not None:
                finishes[index] = event.finish  # type: ignore[call-overload]
                left -= 1
    finally:
        for each in jobs:
            each.cancel()
    return texts, [*finishes]


async def _stream(
    jobs: Sequence[Job], news: asyncio.Queue[tuple[int, Event]], writer: Writer, prompt_tokens: int | None
) -> AsyncIterator[str]:
    """The answers as server-sent events. A client that leaves ends them."""
    left = len(jobs)
    try:
        if writer.chat:
            for index in range(len(jobs)):
                yield _event(writer.piece(index, "", first=True))
        while left:
            index, event = await news.get()
            if event.error is not None:
                yield _event(error_body(500, event.error))
                return
            if event.text:
                yield _event(writer.piece(index, event.text))
            if event.finish is not None:
                left -= 1
                yield _event(writer.piece(index, "", event.finish))
        if prompt_tokens is not None:
            used = sum(len(each.generated) for each in jobs)
            yield _event(writer.usage(Usage(prompt_tokens, used)))
        yield "data: [DONE]\n\n"
    finally:
        for each in jobs:
            each.cancel()


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"
