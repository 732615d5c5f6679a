"""Turns of a conversation, as OpenAI's messages or as ShareGPT spells them.

What a turn of the assistant may hold besides its content:

- ``weight``, ``loss``, ``train`` or ``trainable``: whether it is trained. 0 or false shows the
  turn to the model without training it. On other turns the switch changes nothing.
- ``reasoning_content``, ``reasoning`` or ``thinking``: what it thinks before. A content that
  begins with ``<think>`` is taken apart into both, see :func:`split_think`.
- ``tool_calls``, or the older ``function_call``: what it asks for. The content may then be null.

The content of any turn may be a list of text parts, ``[{"type": "text", "text": ...}]``, which
are joined as they are. Keys that are not named here are not read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from xft.data.formats.getters import get_object, get_text, missing_field_error, parse_bool, type_error
from xft.data.formats.tool_calls import parse_call, parse_calls
from xft.errors import DataError, did_you_mean
from xft.types import Message, Role, ToolCall

LOSS_FLAG_KEYS = ("weight", "loss", "train", "trainable")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_OPEN, _CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class MessageSchema:
    """How a data set writes its turns.

    Attributes:
        who: the keys of the speaker; the second is read where the first is missing or null.
        what: the keys of the content, likewise.
        roles: who is meant by each speaker; ``call`` is an assistant's turn whose content is a
            function call as JSON.
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
    turns: list[Any], path: str, spelling: MessageSchema, train_on: bool = True, split: bool = True
) -> list[Message]:
    """Read turns.

    Args:
        turns: the objects of the row.
        path: where the list stands in the row.
        spelling: how they are written.
        learn: whether turns of the assistant are trained, where no switch says otherwise.
        split: whether a content that begins with ``<think>`` is taken apart.

    Returns:
        A message for each turn.

    Raises:
        DataError: with the path of the field that does not fit.
    """
    messages: list[Message] = []
    waiting: list[ToolCall] = []
    (role_keys, who_else), (content_keys, what_else), roles = (
        spelling.role_keys,
        spelling.content_keys,
        spelling.roles,
    )
    for number, turn in enumerate(turns, 1):
        # Most turns have a speaker and a text and nothing else: these take the short way.
        if type(turn) is dict and len(turn) == 2:
            speaker, content = turn.get(role_keys), turn.get(content_keys)
            if speaker is None:
                speaker, content = turn.get(who_else), turn.get(what_else)
            if type(speaker) is str and type(content) is str and not content.startswith(_OPEN):
                role = roles.get(speaker)
                if role is not None and role != "call":
                    messages.append(Message(role, content, train_on and role == "assistant"))
                    continue
        message, identity = _read(turn, f"{path}[{number}]", spelling, train_on, split)
        if message.tool_calls:
            waiting = list(message.tool_calls)
        if identity:
            message = _match_tool_result(message, identity, waiting, f"{path}[{number}]")
        messages.append(message)
    return messages


def split_think(text: str) -> tuple[str, str]:
    r"""Part what is thought from what is said: ``<think>\n...\n</think>\n\n...``.

    Only a block that is closed, not blank, and stands at the very beginning is parted. The line
    breaks beside the marks belong to the block and are taken away, as the templates of the models
    that think (Qwen3, DeepSeek-R1) write them again.

    Returns:
        The thought, empty where there is none, and the rest.
    """
    if not text.startswith(_OPEN):
        return "", text
    end = text.find(_CLOSE)
    thought = text[len(_OPEN) : end].strip("\n") if end >= 0 else ""
    if not thought.strip():
        return "", text
    return thought, text[end + len(_CLOSE) :].lstrip("\n")


def assistant_message(text: str, split: bool = True) -> Message:
    """A turn of the assistant that is trained, taken apart where it begins with ``<think>``."""
    if split and text.startswith(_OPEN):
        thought, said = split_think(text)
        return Message("assistant", said, True, thought)
    return Message("assistant", text, True)


def add_system(messages: list[Message], rules: str, path: str) -> None:
    """Put a system text before the turns, in place, unless they begin with the same one.

    Raises:
        DataError: they begin with another one.
    """
    if not rules:
        return
    first = messages[0] if messages else None
    if first is None or first.role != "system":
        messages.insert(0, Message("system", rules))
    elif first.content != rules:
        raise DataError(
            f"field {path}: the row has a system text here and another one in its turns, expected one; "
            f"rename one of the columns, or name a column that is not there ({path!r} is read)"
        )


def _read(
    turn: Any, path: str, spelling: MessageSchema, train_on: bool, split: bool
) -> tuple[Message, str]:
    turn = get_object(turn, path)
    role = _role(turn, path, spelling)
    trained = _loss_flag(turn, path) and train_on
    thought = _reasoning(turn, path)
    if role == "call":
        key = _key(turn, spelling.content_keys)
        if turn.get(key) is None:
            raise missing_field_error(turn, key, path, "a function call")
        calls = parse_calls(turn[key], f"{path}.{key}")
        return Message("assistant", "", trained, thought, calls), ""
    calls = _tool_calls(turn, path)
    content = _content(turn, path, spelling, optional=bool(calls))
    if role == "assistant":
        if split and content.startswith(_OPEN):
            block, content = split_think(content)
            if block and thought:
                raise DataError(
                    f"field {path}: a <think> block and a field of reasoning, expected one of them"
                )
            thought = thought or block
        return Message("assistant", content, trained, thought, calls), ""
    if thought or calls:
        content_keys = "reasoning" if thought else "function calls"
        raise DataError(
            f"field {path}: {content_keys} in a turn of the {role}, expected it in the assistant's"
        )
    if role != "tool":
        return Message(cast(Role, role), content), ""
    identity = get_text(turn, "tool_call_id", path, optional=True)
    return Message("tool", content, name=get_text(turn, "name", path, optional=True)), identity


def _key(turn: Mapping[str, Any], keys: tuple[str, str]) -> str:
    first, second = keys
    return second if turn.get(first) is None and second in turn else first


def _role(turn: Mapping[str, Any], path: str, spelling: MessageSchema) -> Role | Literal["call"]:
    key = _key(turn, spelling.role_keys)
    speaker = get_text(turn, key, path)
    role = spelling.roles.get(speaker)
    if role is None:
        hint = did_you_mean(speaker, spelling.roles)
        raise DataError(f"field {path}.{key}: got {speaker!r:.80}, expected who speaks; {hint}")
    return role


def _content(turn: Mapping[str, Any], path: str, spelling: MessageSchema, optional: bool) -> str:
    key = _key(turn, spelling.content_keys)
    value = turn.get(key)
    if not isinstance(value, list) or not value:
        return get_text(turn, key, path, optional)
    texts = []
    for number, part in enumerate(value, 1):
        where = f"{path}.{key}[{number}]"
        kind = get_text(get_object(part, where), "type", where)
        if kind != "text":
            raise DataError(
                f"field {where}.type: got {kind!r:.80}, expected 'text': images, sounds and other parts cannot "
                "be trained on, only text"
            )
        texts.append(get_text(part, "text", where))
    return "".join(texts)


def _loss_flag(turn: Mapping[str, Any], path: str) -> bool:
    found = {
        key: parse_bool(turn[key], f"{path}.{key}") for key in LOSS_FLAG_KEYS if turn.get(key) is not None
    }
    if len(set(found.values())) > 1:
        raise DataError(f"field {path}: got {found}, expected one of these, or the same in each")
    return all(found.values())


def _reasoning(turn: Mapping[str, Any], path: str) -> str:
    found = {key: text for key in REASONING_KEYS if (text := get_text(turn, key, path, optional=True))}
    if len(set(found.values())) > 1:
        raise DataError(f"field {path}: {' and '.join(found)} differ, expected one of them")
    return next(iter(found.values()), "")


def _tool_calls(turn: Mapping[str, Any], path: str) -> tuple[ToolCall, ...]:
    value, older = turn.get("tool_calls"), turn.get("function_call")
    if value is not None and not isinstance(value, list):
        raise type_error(f"{path}.tool_calls", value, "a list of function calls")
    if older is None:
        return parse_calls(value, f"{path}.tool_calls") if value else ()
    if value:
        raise DataError(f"field {path}: tool_calls and function_call, expected one of them")
    return (parse_call(older, f"{path}.function_call"),)


def _match_tool_result(message: Message, identity: str, waiting: list[ToolCall], path: str) -> Message:
    """Name the result of a call by the call's id. The order must be that of the calls: it is all
    that is left of the ids in a template that does not write them."""
    place = next((index for index, each in enumerate(waiting) if each.id == identity), None)
    if place is None:
        raise DataError(
            f"field {path}.tool_call_id: got {identity!r:.80}, expected the id of a call in the assistant's turn "
            "before, each once and in the order of the calls"
        )
    name = waiting[place].name
    del waiting[: place + 1]
    if message.name and message.name != name:
        raise DataError(
            f"field {path}.name: got {message.name!r:.80}, expected {name!r:.80}, the function of the call"
        )
    return Message("tool", message.content, name=name)
