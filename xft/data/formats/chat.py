"""Formats of whole conversations: OpenAI, ShareGPT, XTuner, and data sets written in these."""

import ast
import json
import re
from contextlib import suppress
from typing import Any

from xft.data.formats.getters import get_list, get_object, get_text, parse_bool, short_repr, type_error
from xft.data.formats.messages import OPENAI, SHAREGPT, add_system, assistant_message, parse_messages
from xft.data.formats.tool_calls import get_tools
from xft.errors import DataError
from xft.registry import register
from xft.types import Conversation, Message, Row


@register("format", "openai")
def openai(
    row: Row,
    messages: str = "messages",
    system: str = "system",
    tools: str = "tools",
    split_think: bool = True,
) -> list[Message] | Conversation:
    """OpenAI: ``messages`` of role and content, with tool calls and reasoning; ``tools`` beside them.

    ``developer`` is ``system``, ``function`` is ``tool``. ``tools`` (or the older ``functions``)
    may be missing; so may ``system``, a column for data whose turns do not begin with one. What a
    turn may hold is said in :mod:`xft.data.formats.messages`.

    Args:
        row: the row.
        messages: the column of the turns.
        system: the column of the system text.
        tools: the column of the functions' descriptions, a list or JSON text.
        split_think: whether a content that begins with ``<think>`` becomes reasoning and content.

    Example:
        ``{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}``
    """
    turns = parse_messages(get_list(row, messages), messages, OPENAI, split=split_think)
    if system in row:
        add_system(turns, get_text(row, system, optional=True), system)
    described = get_tools(row, tools) or get_tools(row, "functions")
    return Conversation(turns, described) if described else turns


@register("format", "sharegpt")
def sharegpt(
    row: Row,
    conversations: str = "conversations",
    system: str = "system",
    tools: str = "tools",
    split_think: bool = True,
) -> list[Message] | Conversation:
    """ShareGPT: ``conversations`` of from and value, with function calls; ``system`` and ``tools`` beside them.

    Turns may be spelled role and content instead. The user is ``human``, ``user`` or
    ``prompter``; the assistant ``gpt``, ``assistant``, ``chatgpt``, ``bing``, ``bard``, ``bot`` or
    ``model``. A ``function_call`` (or ``tool_call``) holds ``{"name": ..., "arguments": ...}`` as JSON,
    or a list of these, and an ``observation`` (``tool``, ``function_response``) its result.

    Args:
        row: the row.
        conversations: the column of the turns.
        system: the column of the system text.
        tools: the column of the functions' descriptions, a list or JSON text.
        split_think: whether a value that begins with ``<think>`` becomes reasoning and content.

    Example:
        ``{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}``
    """
    turns = parse_messages(get_list(row, conversations), conversations, SHAREGPT, split=split_think)
    if system in row:
        add_system(turns, get_text(row, system, optional=True), system)
    described = get_tools(row, tools)
    return Conversation(turns, described) if described else turns


@register("format", "xtuner")
def xtuner(row: Row, conversation: str = "conversation") -> list[Message]:
    """XTuner: ``conversation`` of input and output, with a system text in the first turn.

    A turn with ``"output_with_loss": false`` is shown and not trained.

    Example:
        ``{"conversation": [{"system": "Be brief.", "input": "Hi", "output": "Hello"}]}``
    """
    turns: list[Message] = []
    for number, value in enumerate(get_list(row, conversation), 1):
        where = f"{conversation}[{number}]"
        turn = get_object(value, where)
        rules = get_text(turn, "system", where, optional=True)
        if rules and number > 1:
            raise DataError(f"field {where}.system: only the first turn may have one")
        if rules:
            turns.append(Message("system", rules))
        turns.append(Message("user", get_text(turn, "input", where)))
        said = assistant_message(get_text(turn, "output", where))
        switch = turn.get("output_with_loss")
        if switch is not None and not parse_bool(switch, f"{where}.output_with_loss"):
            said = Message("assistant", said.content, False, said.reasoning)
        turns.append(said)
    return turns


@register("format", "wizardlm")
def wizardlm(row: Row, conversations: str = "conversations") -> list[Message]:
    """WizardLM Evol-Instruct V2 (``WizardLM_evol_instruct_V2_196k``): ShareGPT turns of human and gpt.

    XTuner leaves out turns before the first human one, and a last question without an answer.
    Here every turn is kept.

    Example:
        ``{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}``
    """
    return parse_messages(get_list(row, conversations), conversations, SHAREGPT)


_IMAGES = ("image", "images", "video", "videos")
_PLACEHOLDER = "<image>"


@register("format", "llava")
def llava(row: Row, conversations: str = "conversations") -> list[Message]:
    """LLaVA instruction mixes (``llava_v1_5_mix665k``): ShareGPT turns of human and gpt, the rows without an image.

    Only text is trained here. A row that has an image, or a question with ``<image>`` in it, does
    not fit: with ``data.on_invalid='quarantine'`` it is kept aside and counted, and the text rows of the mix are
    trained on.

    Example:
        ``{"id": "1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}``
    """
    for name in _IMAGES:
        if row.get(name):
            raise DataError(
                f"field {name}: got {short_repr(row[name])}, expected a row of text alone: images are not trained; "
                "data.on_invalid='quarantine' puts such rows aside"
            )
    turns = parse_messages(get_list(row, conversations), conversations, SHAREGPT)
    for number, turn in enumerate(turns, 1):
        if turn.role == "user" and _PLACEHOLDER in turn.content:
            raise type_error(
                f"{conversations}[{number}]", turn.content, "text alone: an image cannot be shown"
            )
    return turns


_MARK = re.compile(r"###\s*(Human|Assistant):")


@register("format", "oasst1")
def oasst1(row: Row, text: str = "text") -> list[Message]:
    """OpenAssistant Guanaco (``openassistant-guanaco``): ``### Human: ...### Assistant: ...`` in one text.

    Only the two marks part turns: a heading (``### Steps``) in an answer stays in it, where
    XTuner loses it. The blanks around a turn are taken away. A last question without an answer
    is kept.

    Example:
        ``{"text": "### Human: Hi### Assistant: Hello"}``
    """
    whole = get_text(row, text)
    before, *pieces = _MARK.split(whole)
    if before.strip() or not pieces:
        raise type_error(text, whole, "'### Human: ...### Assistant: ...' from its beginning")
    return [
        assistant_message(said.strip()) if speaker == "Assistant" else Message("user", said.strip())
        for speaker, said in zip(pieces[::2], pieces[1::2], strict=True)
    ]


@register("format", "msagent")
def msagent(row: Row, conversations: str = "conversations") -> list[Message]:
    """MSAgent-Bench (``ms_agent``): turns of system, user and assistant, written as a text.

    The text is a Python list of ``{"from": ..., "value": ...}``, which is read as a literal and
    never run, or JSON; a column that is a list already is taken as well. XTuner writes the turns
    of system and user into one, with marks of its own; here they keep their roles.

    Example:
        ``{"conversations": "[{'from': 'user', 'value': 'Hi'}, {'from': 'assistant', 'value': 'Hello'}]"}``
    """
    value: Any = row.get(conversations)
    if isinstance(value, str):
        value = _literal(value, conversations)
    return parse_messages(get_list({**row, conversations: value}, conversations), conversations, SHAREGPT)


def _literal(text: str, path: str) -> Any:
    with suppress(ValueError, RecursionError):  # most rows are Python literals, not JSON
        return json.loads(text)
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise DataError(
            f"field {path}: got {short_repr(text)}, expected a list of turns as a Python literal or JSON, and nothing "
            f"that would have to be run ({type(error).__name__})"
        ) from error
