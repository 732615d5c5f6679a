"""Deliver the events of answers to a client, and stop the answers when it disconnects."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import Request

from xft.serving.server.protocol import ApiError, error_body
from xft.serving.server.requests import GenerationEvent
from xft.serving.server.responses import Choice, ResponseBuilder, Usage
from xft.serving.server.tool_calls import ParsedCall

EventQueue = asyncio.Queue[tuple[int, GenerationEvent]]
"""Events of a request, each with the index of its choice."""


def emit(loop: asyncio.AbstractEventLoop, queue: EventQueue, index: int, event: GenerationEvent) -> None:
    """Queue an event from another thread."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(queue.put_nowait, (index, event))


async def collect_all(choices: Sequence[Choice], queue: EventQueue, request: Request) -> None:
    """Collect all answers; cancel them as soon as the client disconnects.

    Raises:
        ApiError: an answer failed, or the client disconnected.
    """
    collection = asyncio.ensure_future(_collect(choices, queue))
    disconnection = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait((collection, disconnection), return_when=asyncio.FIRST_COMPLETED)
        if not collection.done():
            raise ApiError(499, "the client disconnected")
        collection.result()
    finally:
        cancel_all(choices)
        for task in (collection, disconnection):
            task.cancel()


async def _collect(choices: Sequence[Choice], queue: EventQueue) -> None:
    """Read events until all answers have ended.

    Raises:
        ApiError: an answer failed.
    """
    while any(choice.finish_reason is None for choice in choices):
        index, event = await queue.get()
        if event.error is not None:
            raise ApiError(500, event.error)
        choices[index].add(event)


async def _wait_for_disconnect(request: Request) -> None:
    """Return when the client disconnects. The body of the request must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def stream_events(
    choices: Sequence[Choice], queue: EventQueue, builder: ResponseBuilder, prompt_tokens: int | None
) -> AsyncIterator[str]:
    """Stream answers as server-sent events; cancel them if the client disconnects.

    Args:
        choices: answers.
        queue: their events.
        builder: builds the chunks.
        prompt_tokens: number of tokens of the prompts; ``None`` to omit the chunk with the usage.
    """
    try:
        if builder.chat:
            for index in range(len(choices)):
                yield _server_sent_event(builder.first_chunk(index))
        while any(choice.finish_reason is None for choice in choices):
            index, event = await queue.get()
            if event.error is not None:
                yield _server_sent_event(error_body(500, event.error))
                return
            choice = choices[index]
            call_index = len(choice.calls)
            for piece in choice.add(event):
                if isinstance(piece, ParsedCall):
                    yield _server_sent_event(builder.call_chunk(index, piece, call_index))
                    call_index += 1
                else:
                    yield _server_sent_event(builder.text_chunk(index, piece))
            if choice.finish_reason is not None:
                yield _server_sent_event(builder.text_chunk(index, "", choice.finish_reason))
        if prompt_tokens is not None:
            completion_tokens = sum(len(choice.request.generated) for choice in choices)
            yield _server_sent_event(builder.usage_chunk(Usage(prompt_tokens, completion_tokens)))
        yield "data: [DONE]\n\n"
    finally:
        cancel_all(choices)


def cancel_all(choices: Sequence[Choice]) -> None:
    """Cancel the answers that have not ended."""
    for choice in choices:
        choice.request.cancel()


def _server_sent_event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"
