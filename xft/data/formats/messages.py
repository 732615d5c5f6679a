"""Read the turns of a conversation in the schema of OpenAI or ShareGPT.

Optional keys of an assistant turn:

- ``weight``, ``loss_weight``, ``loss``, ``train``, ``training`` or ``trainable``: whether the turn is in the loss. 0
  or false keeps the turn as context only, as does ``masked: true``. Other turns ignore these keys. Keys that weight
  turns or mark targets within one are errors (see :mod:`xft.data.formats.loss_flags`).
- ``reasoning_content``, ``reasoning`` or ``thinking``: reasoning before the content. A content that starts with
  ``<think>`` is split into both, see :func:`split_think`.
- ``tool_calls``, or the older ``function_call``: tool calls. The content may then be null.
- ``channel``: channel of harmony, see :mod:`xft.data.formats.channels`.

The content of any turn may be a list of parts, see :mod:`xft.data.formats.content_parts`, images included. Video and
audio are errors. All other keys are passed to the chat template, and counted in the data report.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from xft.data.formats.channels import merge_channels
from xft.data.formats.content_parts import Content, check_media, get_content
from xft.data.formats.getters import (
    field_error,
    get_object,
    get_text,
    missing_field_error,
    type_error,
)
from xft.data.formats.images import place_images
from xft.data.formats.loss_flags import loss_flag
from xft.data.formats.tool_calls import parse_call, parse_calls
from xft.data.formats.turn_keys import REASONING_KEYS
from xft.errors import did_you_mean, short_repr
from xft.types import Image, Message, Role, SourceTurn, ToolCall

_OPEN, _CLOSE = "<think>", "</think>"
_EMPTY_BLOCKS = re.compile(rf"(?:{_OPEN}\s*{_CLOSE}\s*)+(?={_OPEN})")
"""Blank thoughts before another one."""


@dataclass(frozen=True, slots=True)
class MessageSchema:
    """Keys and role names of the turns of a dataset.

    Attributes:
        role_keys: keys of the role; the second is read if the first is missing or null.
        content_keys: keys of the content, likewise.
        roles: role name in the data to role; ``call`` is an assistant turn whose content is a tool call as JSON.
    """

    role_keys: tuple[str, str]
    content_keys: tuple[str, str]
    roles: Mapping[str, Role | Literal["call"]]


OPENAI = MessageSchema(
    ("role", "role"),
    ("content", "content"),
    {
        "system": "system",
        "developer": "system",
        "user": "user",
        "assistant": "assistant",
        "tool": "tool",
        "function": "tool",
    },
)
SHAREGPT = MessageSchema(
    ("from", "role"),
    ("value", "content"),
    {
        **OPENAI.roles,
        **dict.fromkeys(("human", "prompter"), "user"),
        **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "bot", "model"), "assistant"),
        **dict.fromkeys(("observation", "function_response", "tool_response"), "tool"),
        **dict.fromkeys(("function_call", "tool_call"), "call"),
    },
)


def parse_messages(
    turns: list[Any],
    path: str,
    schema: MessageSchema,
    train_on: bool = True,
    split: bool = True,
    images: Sequence[Image] = (),
) -> list[Message]:
    """Parse turns.

    Args:
        turns: objects of the row.
        path: path of the list in the row.
        schema: keys and role names of the turns.
        train_on: whether assistant turns are targets, unless a loss flag is false.
        split: split a content that starts with ``<think>``.
        images: images of the columns, to which the turns refer.

    Returns:
        One message per turn.

    Raises:
        DataError: a field is invalid; the message starts with its path.
    """
    messages: list[Message] = []
    pending: list[ToolCall] = []
    parts: list[Sequence[Image | None]] = [()] * len(turns)
    (role_keys, role_key_2), (content_keys, content_key_2), roles = (
        schema.role_keys,
        schema.content_keys,
        schema.roles,
    )
    for number, turn in enumerate(turns, 1):
        # Fast path: most turns have a role and a text only.
        if type(turn) is dict and len(turn) == 2:
            role_name, content = turn.get(role_keys), turn.get(content_keys)
            if role_name is None:
                role_name, content = turn.get(role_key_2), turn.get(content_key_2)
            if type(role_name) is str and type(content) is str and not _has_thought(content):
                role = roles.get(role_name)
                if role is not None and role != "call" and role_name != "developer":
                    messages.append(Message(role, content, train_on and role == "assistant"))
                    continue
        message, parts[number - 1] = _parse(turn, f"{path}[{number}]", schema, train_on, split)
        if message.tool_calls:
            pending = list(message.tool_calls)
        if message.tool_call_id:
            _match_tool_result(message, pending, f"{path}[{number}]")
        if type(turn.get("role")) is str and roles.get(turn["role"]) != "call":
            message = replace(message, source=_source(turn, message, bool(parts[number - 1])))
        messages.append(message)
    if images or any(parts):
        messages = place_images(messages, parts, images, path)
    if any("channel" in turn for turn in turns):
        return merge_channels(messages, turns, path)
    return messages


def split_think(text: str, path: str = "content") -> tuple[str, str]:
    r"""Split a text into reasoning and content: ``<think>\n...\n</think>\n\n...``.

    Only a non-blank block at the start, or after blank ones, is split. ``<think>`` may be missing, as in the answers of
    models whose prompt ends with it. Line breaks next to the tags are removed, because the templates of reasoning models
    (Qwen3, DeepSeek-R1) write them again.

    Returns:
        Reasoning, or an empty text, and content.

    Raises:
        DataError: the block is not closed.
    """
    if not _has_thought(text):
        return "", text
    empty = _EMPTY_BLOCKS.match(text)
    begin = empty.end() if empty else 0
    end = text.find(_CLOSE, begin)
    if end < 0:
        problem, fix = "got <think> without </think>", "close the thought, or set split_think=False"
        raise field_error(path, problem, "a thought that is closed", text, fix)
    reasoning = text[begin:end].removeprefix(_OPEN).strip("\n")
    if not reasoning.strip():
        return "", text
    return reasoning, text[end + len(_CLOSE) :].lstrip("\n")


def assistant_message(text: str, split: bool = True) -> Message:
    """Return a target message of the assistant; split a text that starts with a thought."""
    if split and _has_thought(text):
        reasoning, content = split_think(text)
        message = Message("assistant", content, True, reasoning)
        if text.startswith(_OPEN):
            return message
        # A template that does not read reasoning writes the text as it is.
        return replace(message, source=SourceTurn({"role": "assistant", "content": text}, message))
    return Message("assistant", text, True)


def _has_thought(text: str) -> bool:
    return text.startswith(_OPEN) or (_CLOSE in text and _OPEN not in text)


def add_system(messages: list[Message], system_text: str, path: str) -> None:
    """Insert a system message in place, unless the messages start with the same one.

    Raises:
        DataError: the messages start with another system message.
    """
    if not system_text:
        return
    first = messages[0] if messages else None
    if first is None or first.role != "system":
        messages.insert(0, Message("system", system_text))
    elif first.content != system_text:
        raise field_error(
            path,
            f"got {short_repr(system_text)}, and another system text in the turns",
            "one system text",
            system_text,
            f"rename the column, or give the format another name than {path!r}",
        )


def _source(turn: dict[str, Any], message: Message, has_images: bool) -> SourceTurn:
    """Keep the fields of a turn, except for parts with images: a template gets their places."""
    fields = {**turn, "content": message.content} if has_images else turn
    return SourceTurn(fields, message)


def _parse(
    turn: object, path: str, schema: MessageSchema, train_on: bool, split: bool
) -> tuple[Message, Sequence[Image | None]]:
    """Return the message of a turn, without its images, and the images of its parts."""
    turn = get_object(turn, path)
    role = _role(turn, path, schema)
    is_target = loss_flag(turn, path) and train_on
    check_media(turn, path)
    if role == "call":
        key = _key(turn, schema.content_keys)
        if turn.get(key) is None:
            raise missing_field_error(turn, key, path, "a tool call")
        calls = parse_calls(turn[key], f"{path}.{key}")
        return Message("assistant", "", is_target, _reasoning(turn, path), calls), ()
    calls = _tool_calls(turn, path)
    parts = get_content(turn, _key(turn, schema.content_keys), path, optional=bool(calls))
    content, reasoning = parts.text, _reasoning(turn, path, parts)
    if calls and parts.tool_calls:
        raise field_error(path, "got tool_calls and tool_call parts", "one of them")
    calls = calls or parts.tool_calls
    if role == "assistant":
        if split:
            block, content = split_think(content, f"{path}.{_key(turn, schema.content_keys)}")
            if block and reasoning:
                raise field_error(path, "got a <think> block and a reasoning field", "one of them")
            reasoning = reasoning or block
        return Message("assistant", content, is_target, reasoning, calls), parts.images
    if reasoning or calls:
        problem = f"got {'reasoning' if reasoning else 'tool calls'} in a turn of the {role}"
        raise field_error(path, problem, "it in assistant turns only")
    if role != "tool":
        return Message(cast(Role, role), content), parts.images
    name, call_id = (get_text(turn, key, path, optional=True) for key in ("name", "tool_call_id"))
    return Message("tool", content, name=name, tool_call_id=call_id), parts.images


def _key(turn: Mapping[str, Any], keys: tuple[str, str]) -> str:
    first, second = keys
    return second if turn.get(first) is None and second in turn else first


def _role(turn: Mapping[str, Any], path: str, schema: MessageSchema) -> Role | Literal["call"]:
    key = _key(turn, schema.role_keys)
    role_name = get_text(turn, key, path)
    role = schema.roles.get(role_name)
    if role is None:
        fix = did_you_mean(role_name, schema.roles)
        raise field_error(f"{path}.{key}", f"got {role_name!r:.80}", "a role", role_name, fix)
    return role


def _reasoning(turn: Mapping[str, Any], path: str, content: Content | None = None) -> str:
    texts = {key: text for key in REASONING_KEYS if (text := get_text(turn, key, path, optional=True))}
    if content is not None and content.reasoning:
        texts["parts of the content"] = content.reasoning
    if len(set(texts.values())) > 1:
        raise field_error(path, f"{' and '.join(texts)} differ", "one of them", list(texts))
    return next(iter(texts.values()), "")


def _tool_calls(turn: Mapping[str, Any], path: str) -> tuple[ToolCall, ...]:
    value, older = turn.get("tool_calls"), turn.get("function_call")
    if value is not None and not isinstance(value, list):
        raise type_error(f"{path}.tool_calls", value, "a list of tool calls")
    if older is None:
        return parse_calls(value, f"{path}.tool_calls") if value else ()
    if value:
        raise field_error(path, "got tool_calls and function_call", "one of them")
    return (parse_call(older, f"{path}.function_call"),)


def _match_tool_result(message: Message, pending: list[ToolCall], path: str) -> None:
    """Check that a tool result answers a pending call, in any order, and remove the call."""
    call = next((call for call in pending if call.id == message.tool_call_id), None)
    if call is None:
        problem = f"got {short_repr(message.tool_call_id)}"
        expected = "the id of a call in the previous assistant turn, each once"
        fix = "parallel calls are one list, in the tool_calls of one turn"
        raise field_error(f"{path}.tool_call_id", problem, expected, message.tool_call_id, fix)
    pending.remove(call)
    if message.name and message.name != call.name:
        expected = f"{call.name!r:.80}, the function of the call"
        raise field_error(f"{path}.name", f"got {message.name!r:.80}", expected, message.name)
