"""Responses of the supported part of OpenAI's API."""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse

from xft.serving.server.requests import GenerationEvent, GenerationRequest
from xft.serving.server.tool_calls import ParsedCall, ToolCallParser


class AsciiResponse(JSONResponse):
    """JSON response that can also hold lone surrogates, such as those of file names and of quoted input."""

    def render(self, content: object) -> bytes:
        """Serialize with ``\\u`` escapes."""
        return json.dumps(content).encode()


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

    def full(self, choices: Sequence["Choice"], usage: Usage) -> dict[str, Any]:
        """Build the response without streaming."""
        items: list[dict[str, Any]] = []
        for index, choice in enumerate(choices):
            content: dict[str, Any] = {"text": choice.text}
            if self.chat:
                message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
                if choice.calls:
                    message["content"] = choice.text or None
                    message["tool_calls"] = [call.to_dict() for call in choice.calls]
                content = {"message": message}
            items.append(
                {"index": index, **content, "logprobs": None, "finish_reason": choice.finish_reason}
            )
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self._common, "object": kind, "choices": items, "usage": usage.to_dict()}

    def first_chunk(self, index: int) -> dict[str, Any]:
        """Build the first chunk of the streamed choice ``index`` of a chat, which has the role."""
        return self._chunk(index, {"delta": {"role": "assistant", "content": ""}})

    def text_chunk(self, index: int, text: str, finish_reason: str | None = None) -> dict[str, Any]:
        """Build a chunk with text, or with the end of a choice."""
        return self._chunk(
            index, {"delta": {"content": text}} if self.chat else {"text": text}, finish_reason
        )

    def call_chunk(self, index: int, call: ParsedCall, call_index: int) -> dict[str, Any]:
        """Build a chunk with a complete tool call."""
        return self._chunk(index, {"delta": {"tool_calls": [{"index": call_index, **call.to_dict()}]}})

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """Build the last chunk of a stream with ``include_usage``."""
        return {**self._common, "object": self._chunk_object, "choices": [], "usage": usage.to_dict()}

    def _chunk(
        self, index: int, content: Mapping[str, Any], finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": index, **content, "logprobs": None, "finish_reason": finish_reason}
        return {**self._common, "object": self._chunk_object, "choices": [choice]}

    @property
    def _chunk_object(self) -> str:
        return "chat.completion.chunk" if self.chat else "text_completion"


class Choice:
    """One answer of a request: its text, its tool calls, and why it ended.

    Args:
        request: generates the answer.
        parser: separates tool calls from text; ``None`` without tools.

    Attributes:
        text: text so far, without tool calls.
        calls: tool calls so far.
        finish_reason: ``stop``, ``length`` or ``tool_calls``; ``None`` before the end.
    """

    def __init__(self, request: GenerationRequest, parser: ToolCallParser | None) -> None:
        self.request = request
        self._parser = parser
        self.text = ""
        self.calls: list[ParsedCall] = []
        self.finish_reason: str | None = None

    def add(self, event: GenerationEvent) -> list[str | ParsedCall]:
        """Record an event; return the new text and the new calls in order."""
        pieces: list[str | ParsedCall] = [event.text] if event.text else []
        if self._parser is not None:
            pieces = list(self._parser.feed(event.text))
            if event.finish_reason is not None:
                pieces += self._parser.finish()
        for piece in pieces:
            if isinstance(piece, ParsedCall):
                self.calls.append(piece)
            else:
                self.text += piece
        self.finish_reason = event.finish_reason
        if self.finish_reason == "stop" and self.calls:
            self.finish_reason = "tool_calls"
        return pieces
