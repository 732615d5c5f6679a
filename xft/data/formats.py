"""Formats (dataset map functions): one row becomes a conversation, or a text.

A map function takes a row and raises :class:`DataError` where a field is missing or wrong; the
caller adds the file and the line. One of your own needs no registering: name it by its dotted
path, ``format='my_package.my_function'``.
"""

from collections.abc import Mapping
from typing import Any, cast

from xft.errors import DataError, nearest
from xft.registry import register
from xft.types import ROLES, Message, Role, Row

SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}


@register("format", "alpaca")
def alpaca(
    row: Row,
    instruction: str = "instruction",
    input: str = "input",
    output: str = "output",
    system: str = "system",
) -> list[Message]:
    r"""Stanford Alpaca: ``{"instruction": ..., "input": ..., "output": ...}``.

    ``input`` may be missing or empty; otherwise it follows the instruction on a line of its
    own. ``system`` may be missing. The arguments are the names of the columns.

    Example:
        ``{"instruction": "Add.", "input": "1 2", "output": "3"}`` → user ``Add.\n1 2``,
        assistant ``3``.
    """
    question = _text(row, instruction)
    if extra := _text(row, input, optional=True):
        question = f"{question}\n{extra}"
    messages = [Message("user", question), Message("assistant", _text(row, output), trained=True)]
    if rules := _text(row, system, optional=True):
        messages.insert(0, Message("system", rules))
    return messages


@register("format", "openai")
def openai(row: Row, messages: str = "messages") -> list[Message]:
    """OpenAI messages: ``{"messages": [{"role": "user", "content": ...}, ...]}``.

    A turn of the assistant with ``"weight": 0`` is shown and not trained.

    Example:
        ``{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}``
    """
    turns: list[Message] = []
    for number, turn in enumerate(_list(row, messages), 1):
        where = f"{messages}[{number}]"
        role = _text(turn, "role", where=where)
        if role not in ROLES:
            raise DataError(f"field {where}.role: got {role!r}, expected one of {', '.join(ROLES)}")
        weight = turn.get("weight", 1)
        if weight not in (0, 1):
            raise DataError(f"field {where}.weight: got {weight!r}, expected 0 or 1")
        trained = role == "assistant" and weight == 1
        turns.append(Message(role, _text(turn, "content", where=where), trained))
    return turns


@register("format", "sharegpt")
def sharegpt(row: Row, conversations: str = "conversations", system: str = "system") -> list[Message]:
    """ShareGPT: ``{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}]}``.

    A ``system`` column may stand beside the turns.

    Example:
        ``{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}``
    """
    turns: list[Message] = []
    if rules := _text(row, system, optional=True):
        turns.append(Message("system", rules))
    for number, turn in enumerate(_list(row, conversations), 1):
        where = f"{conversations}[{number}]"
        speaker = _text(turn, "from", where=where)
        if speaker not in SHAREGPT_ROLES:
            raise DataError(f"field {where}.from: got {speaker!r}; {nearest(speaker, SHAREGPT_ROLES)}")
        role = cast(Role, SHAREGPT_ROLES[speaker])
        turns.append(Message(role, _text(turn, "value", where=where), role == "assistant"))
    return turns


@register("format", "xtuner")
def xtuner(row: Row, conversation: str = "conversation") -> list[Message]:
    """XTuner: ``{"conversation": [{"system": ..., "input": ..., "output": ...}, ...]}``.

    Only the first turn may have a ``system``. A turn with ``"output_with_loss": false`` is shown
    and not trained.

    Example:
        ``{"conversation": [{"system": "Be brief.", "input": "Hi", "output": "Hello"}]}``
    """
    turns: list[Message] = []
    for number, turn in enumerate(_list(row, conversation), 1):
        where = f"{conversation}[{number}]"
        rules = _text(turn, "system", where=where, optional=True)
        if rules and number > 1:
            raise DataError(f"field {where}.system: only the first turn may have one")
        if rules:
            turns.append(Message("system", rules))
        turns.append(Message("user", _text(turn, "input", where=where)))
        trained = turn.get("output_with_loss", True) is not False
        turns.append(Message("assistant", _text(turn, "output", where=where), trained))
    return turns


@register("format", "text")
def text(row: Row, text: str = "text") -> str:
    """Raw text for continued pretraining: ``{"text": ...}``, or a ``.txt`` file.

    Example:
        ``{"text": "Once upon a time ..."}``
    """
    return _text(row, text)


def _text(row: Mapping[str, Any], field: str, where: str = "", optional: bool = False) -> str:
    name = f"{where}.{field}" if where else field
    if not isinstance(row, Mapping):
        raise DataError(f"field {where}: got {row!r}, expected an object")
    value = row.get(field)
    if value is None:
        if optional:
            return ""
        columns = ", ".join(repr(each) for each in row)
        what = "is null" if field in row else f"is missing (the row has {columns or 'no columns'})"
        raise DataError(f"field {name}: {what}, expected text")
    if not isinstance(value, str):
        raise DataError(f"field {name}: got {value!r} ({type(value).__name__}), expected text")
    return value


def _list(row: Row, field: str) -> list[dict[str, Any]]:
    value = row.get(field)
    if not isinstance(value, list) or not value:
        got = f"got {value!r}" if field in row else f"is missing (the row has {', '.join(map(repr, row))})"
        raise DataError(f"field {field}: {got}, expected a list of turns")
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict):
            raise DataError(f"field {field}[{number}]: got {turn!r}, expected an object")
    return value
