"""Read the channels of harmony, the format of gpt-oss: ``analysis``, ``commentary`` and ``final``.

A turn of the assistant is several messages there. They become one: ``analysis`` is its reasoning, ``commentary`` with
a ``recipient`` a tool call with the arguments as JSON, and other ``commentary`` or ``final`` its content.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from xft.data.formats.getters import field_error, get_text
from xft.data.formats.tool_calls import parse_call
from xft.types import Message, SourceTurn

CHANNELS = ("analysis", "commentary", "final")
_MERGED_KEYS = ("channel", "recipient", "content_type")


def merge_channels(messages: Sequence[Message], turns: Sequence[Any], path: str) -> list[Message]:
    """Merge the messages of each turn of the assistant that has channels.

    Args:
        messages: one message per turn of the row.
        turns: the turns of the row.
        path: path of the turns in the row.

    Raises:
        DataError: a channel is unknown, or the messages of a turn are not one answer or call.
    """
    merged: list[Message] = []
    thoughts: list[Message] = []
    preamble: Message | None = None
    for number, (message, turn) in enumerate(zip(messages, turns, strict=True), 1):
        where = f"{path}[{number}]"
        channel = get_text(turn, "channel", where, optional=True)
        if channel and channel not in CHANNELS:
            raise field_error(
                f"{where}.channel", f"got {channel!r:.80}", f"one of {', '.join(CHANNELS)}", channel
            )
        if message.role != "assistant" or not channel:
            _check_answered(thoughts, preamble, where)
            merged.append(message)
            continue
        recipient = get_text(turn, "recipient", where, optional=True)
        if channel == "analysis" and not message.tool_calls:
            if recipient:
                problem = f"got a call of {recipient!r:.80} in the channel 'analysis'"
                raise field_error(f"{where}.recipient", problem, "calls in 'commentary' only", recipient)
            thoughts.append(message)
        else:
            answer = _with_call(message, recipient, where)
            if channel == "commentary" and not answer.tool_calls and preamble is None:
                preamble = answer
            else:
                merged.append(_merge(answer, thoughts, preamble, where))
                thoughts, preamble = [], None
    if preamble is not None:
        merged.append(_merge(preamble, thoughts, None, path))
    else:
        _check_answered(thoughts, preamble, path)
    return merged


def _with_call(message: Message, recipient: str, where: str) -> Message:
    if not recipient:
        return message
    name = recipient.removeprefix("functions.")
    call = parse_call({"name": name, "arguments": message.content}, where)
    return replace(message, content="", tool_calls=(call,))


def _merge(message: Message, thoughts: list[Message], preamble: Message | None, where: str) -> Message:
    if not thoughts and preamble is None:
        return message
    parts = [*thoughts, *([preamble] if preamble else []), message]
    if len({part.is_target for part in parts}) > 1:
        raise field_error(where, "got messages of one turn with different loss flags", "equal loss flags")
    if preamble and message.content:
        raise field_error(
            where, "got two texts to the user in one turn", "commentary before a tool call only"
        )
    content = preamble.content if preamble else message.content
    reasoning = "\n".join(
        [part.content for part in thoughts] + [message.reasoning] * bool(message.reasoning)
    )
    answer = replace(message, content=content, reasoning=reasoning)
    fields = message.source.fields if message.source else {}
    others = {key: value for key, value in fields.items() if key not in _MERGED_KEYS}
    # Only other keys count: the message is not what the fields say.
    return replace(answer, source=SourceTurn(others, message))


def _check_answered(thoughts: list[Message], preamble: Message | None, where: str) -> None:
    if thoughts or preamble:
        problem = f"comes after {'an analysis' if thoughts else 'a commentary'} without an answer"
        raise field_error(where, problem, "a message in the channel 'final', or a tool call")
