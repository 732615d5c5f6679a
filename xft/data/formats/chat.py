"""Read whole conversations: OpenAI, ShareGPT, XTuner, and datasets in these formats."""

import re
from typing import Any

from xft.data.formats.getters import (
    field_error,
    get_list,
    get_object,
    get_text,
    type_error,
)
from xft.data.formats.images import MARK, get_images
from xft.data.formats.loss_flags import loss_flag
from xft.data.formats.messages import OPENAI, SHAREGPT, add_system, assistant_message, parse_messages
from xft.data.formats.tool_calls import get_tools
from xft.errors import short_repr
from xft.registry import register
from xft.templates.template_options import SET_BY_XFT
from xft.types import Conversation, Message, Row


@register("format", "openai")
def openai(
    row: Row,
    messages: str = "messages",
    system: str = "system",
    tools: str = "tools",
    split_think: bool = True,
) -> list[Message] | Conversation:
    """OpenAI: ``messages`` of role and content, with tool calls and reasoning; optionally ``tools``.

    The role ``developer`` is read as ``system``, ``function`` as ``tool``. ``tools`` (or the older ``functions``)
    may be missing. So may ``system``, a column for data whose turns do not start with a system message. Keys of a
    turn: see :mod:`xft.data.formats.messages`. The columns ``images`` and ``image`` hold images, with a part or the
    text ``<image>`` in a turn for each. The columns ``chat_template_kwargs`` (an object) and ``documents`` (a
    list) are variables of the chat template.

    Args:
        row: the row.
        messages: column of the turns.
        system: column of the system text.
        tools: column of the tools, a list or JSON text.
        split_think: split a content that starts with ``<think>`` into reasoning and content.

    Example:
        ``{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}``
    """
    turns = parse_messages(
        get_list(row, messages), messages, OPENAI, split=split_think, images=get_images(row)
    )
    if system in row:
        add_system(turns, get_text(row, system, optional=True), system)
    described_tools = get_tools(row, tools) or get_tools(row, "functions")
    kwargs = _template_kwargs(row)
    return Conversation(turns, described_tools, kwargs) if described_tools or kwargs else turns


def _template_kwargs(row: Row) -> dict[str, Any]:
    """Return the variables of the chat template in a row: ``chat_template_kwargs`` and ``documents``."""
    kwargs = row.get("chat_template_kwargs")
    # Arrow fills in the keys of other rows.
    given = {} if kwargs is None else get_object(kwargs, "chat_template_kwargs")
    variables = {name: value for name, value in given.items() if value is not None}
    for name, value in variables.items():
        if name in SET_BY_XFT:
            key = f"chat_template_kwargs.{name}"
            raise type_error(key, value, f"a variable that xft does not set ({', '.join(SET_BY_XFT)})")
    if row.get("documents"):
        documents = get_list(row, "documents", "documents")
        variables["documents"] = [dict(get_object(item, "documents")) for item in documents]
    return variables


@register("format", "sharegpt")
def sharegpt(
    row: Row,
    conversations: str = "conversations",
    system: str = "system",
    tools: str = "tools",
    split_think: bool = True,
) -> list[Message] | Conversation:
    """ShareGPT: ``conversations`` of from and value, with tool calls; optionally ``system``, ``tools`` and ``images``.

    The keys may be role and content instead. The user is ``human``, ``user`` or
    ``prompter``; the assistant ``gpt``, ``assistant``, ``chatgpt``, ``bing``, ``bard``, ``bot`` or
    ``model``. A ``function_call`` (or ``tool_call``) holds ``{"name": ..., "arguments": ...}`` as JSON,
    or a list of these, and an ``observation`` (``tool``, ``function_response``) its result.

    Args:
        row: the row.
        conversations: column of the turns.
        system: column of the system text.
        tools: column of the tools, a list or JSON text.
        split_think: split a value that starts with ``<think>`` into reasoning and content.

    Example:
        ``{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}``
    """
    turns = parse_messages(
        get_list(row, conversations), conversations, SHAREGPT, split=split_think, images=get_images(row)
    )
    if system in row:
        add_system(turns, get_text(row, system, optional=True), system)
    described_tools = get_tools(row, tools)
    return Conversation(turns, described_tools) if described_tools else turns


@register("format", "xtuner")
def xtuner(row: Row, conversation: str = "conversation") -> list[Message]:
    """XTuner: ``conversation`` of input and output, with a system text in the first turn.

    A turn with ``"output_with_loss": false`` is no target, nor is one with another key of
    :mod:`xft.data.formats.loss_flags` that is false.

    Example:
        ``{"conversation": [{"system": "Be brief.", "input": "Hi", "output": "Hello"}]}``
    """
    turns: list[Message] = []
    for number, value in enumerate(get_list(row, conversation), 1):
        where = f"{conversation}[{number}]"
        turn = get_object(value, where)
        rules = get_text(turn, "system", where, optional=True)
        if rules and number > 1:
            raise field_error(
                f"{where}.system", f"got {short_repr(rules)}", "a system text only in the first turn", rules
            )
        if rules:
            turns.append(Message("system", rules))
        turns.append(Message("user", get_text(turn, "input", where)))
        answer = assistant_message(get_text(turn, "output", where))
        if not loss_flag(turn, where):
            answer = Message("assistant", answer.content, False, answer.reasoning)
        turns.append(answer)
    return turns


@register("format", "wizardlm")
def wizardlm(row: Row, conversations: str = "conversations") -> list[Message]:
    """WizardLM Evol-Instruct V2 (``WizardLM_evol_instruct_V2_196k``): ShareGPT turns of human and gpt.

    XTuner drops turns before the first human one, and a last question without an answer. Here every turn is kept.

    Example:
        ``{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}``
    """
    return parse_messages(get_list(row, conversations), conversations, SHAREGPT)


@register("format", "llava")
def llava(row: Row, conversations: str = "conversations") -> list[Message]:
    """LLaVA (``llava_v1_5_mix665k``): ShareGPT turns of human and gpt, with ``image`` and ``<image>`` in a question.

    ``image`` is a path or a list of paths; rows without one are texts. A question with ``<image>`` in a row without an
    image is an error.

    Example:
        ``{"id": "1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}``
    """
    images = get_images(row)
    turns = parse_messages(get_list(row, conversations), conversations, SHAREGPT, images=images)
    for number, turn in enumerate(turns, 1):
        if turn.role == "user" and MARK in turn.content:
            raise type_error(f"{conversations}[{number}]", turn.content, "text without images")
    return turns


_MARK = re.compile(r"###\s*(Human|Assistant):")


@register("format", "oasst1")
def oasst1(row: Row, text: str = "text") -> list[Message]:
    """OpenAssistant Guanaco (``openassistant-guanaco``): ``### Human: ...### Assistant: ...`` in one text.

    Only these two marks separate turns: a heading (``### Steps``) in an answer stays, while XTuner loses it. White
    space around a turn is stripped. A last question without an answer is kept.

    Example:
        ``{"text": "### Human: Hi### Assistant: Hello"}``
    """
    value = get_text(row, text)
    before, *pieces = _MARK.split(value)
    if before.strip() or not pieces:
        raise type_error(text, value, "a text that starts with '### Human: ...### Assistant: ...'")
    return [
        assistant_message(content.strip()) if speaker == "Assistant" else Message("user", content.strip())
        for speaker, content in zip(pieces[::2], pieces[1::2], strict=True)
    ]


@register("format", "msagent")
def msagent(row: Row, conversations: str = "conversations") -> list[Message]:
    """MSAgent-Bench (``ms_agent``): turns of system, user and assistant, as one text.

    The text is a Python list of ``{"from": ..., "value": ...}``, parsed as a literal and never executed, or JSON; a
    list is accepted too. XTuner joins the turns of system and user with its own marks; here they keep their roles.

    Example:
        ``{"conversations": "[{'from': 'user', 'value': 'Hi'}, {'from': 'assistant', 'value': 'Hello'}]"}``
    """
    return parse_messages(get_list(row, conversations), conversations, SHAREGPT)
