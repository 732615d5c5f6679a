"""Tool calls in generated text: the format is read from the chat template, calls are parsed as they arrive."""

import json
import secrets
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from xft.errors import TemplateError
from xft.serving.server.text_stream import StopMatcher
from xft.templates import BoundTemplate
from xft.types import Message, Tokenizer, ToolCall

_PROBE_CALL = ToolCall("probe_function", {"probe_argument": "value"}, "call00000")
_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": _PROBE_CALL.name,
        "description": "Probe.",
        "parameters": {"type": "object", "properties": {"probe_argument": {"type": "string"}}},
    },
}
_ARGUMENT_KEYS = ("arguments", "parameters")


@dataclass(frozen=True, slots=True)
class ToolCallFormat:
    """How a chat template writes a call: an opener, JSON with name and arguments, a closer.

    Attributes:
        opener: text before the JSON, such as ``<tool_call>``; empty if the call is the whole answer, as in Llama 3.1.
        closer: text after it; empty if the end of the answer closes the call.
    """

    opener: str
    closer: str

    @staticmethod
    def of(template: BoundTemplate) -> "ToolCallFormat | None":
        """Return the format of a template; ``None`` if it writes no calls, or writes them in another format."""
        call = Message("assistant", "", True, tool_calls=(_PROBE_CALL,))
        result = Message("tool", "result", name=_PROBE_CALL.name)
        try:
            segments = template.segments([Message("user", "question"), call, result], [_PROBE_TOOL])
        except TemplateError:
            return None
        text = next(segment.text for segment in segments if segment.is_target)
        for start, char in enumerate(text):
            if char in "{[" and (end := _end_of_calls(text, start)) is not None:
                # Qwen3 writes an empty reasoning block before an answer.
                opener = text[:start].rpartition("</think>")[2].strip()
                closer = text[end:].strip()
                for stop_token in template.stop_tokens:
                    closer = closer.removesuffix(stop_token).strip()
                return ToolCallFormat(opener, closer)
        return None

    def special_ids(self, tokenizer: Tokenizer) -> list[int]:
        """Return the ids of the special tokens in opener and closer, which decoding must keep."""
        text = self.opener + self.closer
        added = tokenizer.added_tokens_decoder.items()
        return [token_id for token_id, token in added if token.special and token.content in text]


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """Call of a function in an answer.

    Attributes:
        name: name of the function.
        arguments: arguments as JSON text.
        id: identifier that the result of the call refers to.
    """

    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the call as an item of ``tool_calls``."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


class ToolCallParser:
    """Splits an answer into text and calls while it arrives.

    Text in the place of a call that is not valid JSON with name and arguments stays text.

    Args:
        form: format of the calls.
        names: names of the functions that the model may call. Only they make an answer without an opener a call.

    Attributes:
        num_calls: number of calls so far.
    """

    def __init__(self, form: ToolCallFormat, names: Collection[str]) -> None:
        self._form = form
        self._names = names
        self.num_calls = 0
        self._buffer = ""
        self._opener = StopMatcher([form.opener] if form.opener else [])
        self._num_sent = 0
        self._lead = ""
        self._in_call = False
        self._may_be_call = True

    def feed(self, text: str) -> Iterator[str | ParsedCall]:
        """Append a piece of the answer; yield the text and the calls that it completes."""
        if not self._form.opener:
            yield from self._feed_whole(text)
            return
        while text:
            if self._in_call:
                text, calls = self._feed_call(text)
                yield from calls
            else:
                text, content = self._feed_content(text)
                if content:
                    yield content

    def finish(self) -> Iterator[str | ParsedCall]:
        """Yield the rest of the answer."""
        is_call = self._in_call or (not self._form.opener and self._may_be_call)
        calls = _parse_calls(self._buffer) if is_call else None
        if (
            calls is not None
            and not self._form.opener
            and any(call.name not in self._names for call in calls)
        ):
            calls = None
        if calls is not None:
            self.num_calls += len(calls)
            yield from calls
            return
        rest = (self._lead if self._in_call else "") + self._buffer
        if rest.strip() or (rest and not self.num_calls):
            yield rest

    def _feed_whole(self, text: str) -> Iterator[str]:
        """Hold an answer that begins like JSON until its end."""
        self._buffer += text
        if self._buffer.strip():
            self._may_be_call = self._may_be_call and self._buffer.lstrip()[0] in "{["
        if not self._may_be_call:
            yield self._buffer
            self._buffer = ""

    def _feed_content(self, text: str) -> tuple[str, str]:
        """Return the text that follows an opener, and the content before it that cannot belong to an opener."""
        offset = self._opener.feed(text)
        self._buffer += text
        if offset is None:
            kept = self._buffer[: len(self._buffer) - self._opener.num_held].rstrip()
            if self.num_calls and not kept:
                return "", ""
            self._num_sent += len(kept)
            self._buffer = self._buffer[len(kept) :]
            return "", kept
        before = self._buffer[: offset - self._num_sent]
        rest = self._buffer[len(before) + len(self._form.opener) :]
        content = before.rstrip()
        self._lead = before[len(content) :] + self._form.opener
        self._buffer, self._in_call = "", True
        return rest, content

    def _feed_call(self, text: str) -> tuple[str, list[ParsedCall]]:
        """Return the text after the closer, and the calls before it."""
        searched = max(len(self._buffer) - len(self._form.closer) + 1, 0)
        self._buffer += text
        position = self._buffer.find(self._form.closer, searched) if self._form.closer else -1
        while position >= 0:
            calls = _parse_calls(self._buffer[:position])
            if calls is not None:
                rest = self._buffer[position + len(self._form.closer) :]
                self._buffer, self._in_call = "", False
                self._opener, self._num_sent = StopMatcher([self._form.opener]), 0
                self.num_calls += len(calls)
                return rest, calls
            # The closer may be part of an argument.
            position = self._buffer.find(self._form.closer, position + 1)
        return "", []


def _end_of_calls(text: str, start: int) -> int | None:
    """Return the end of the JSON at ``start`` if it is the probe call."""
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except ValueError:
        return None
    calls = _parse_calls(text[start:end])
    return end if calls is not None and [call.name for call in calls] == [_PROBE_CALL.name] else None


def _parse_calls(text: str) -> list[ParsedCall] | None:
    """Parse a call or a list of calls; return ``None`` if the text is neither."""
    try:
        value = json.loads(text, parse_constant=_reject_constant)
        json.dumps(value, ensure_ascii=False).encode()  # fails for lone surrogates
    except (ValueError, RecursionError):
        return None
    calls: list[ParsedCall] = []
    for item in value if isinstance(value, list) else [value]:
        key = next((key for key in _ARGUMENT_KEYS if isinstance(item, dict) and key in item), None)
        if key is None or not isinstance(item.get("name"), str) or not item["name"]:
            return None
        arguments = item[key]
        if not isinstance(arguments, str | dict):
            return None
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments, ensure_ascii=False)
        calls.append(ParsedCall(item["name"], arguments))
    return calls or None


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
