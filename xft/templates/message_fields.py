"""Convert messages to the dicts that chat templates read, as ``apply_chat_template`` of transformers does.

A message of a row in the OpenAI format is passed unchanged, because official templates read additional
keys: ``tool_call_id``, ``channel``, ``tool_plan``, ``documents``. As in transformers, keys with a null
value are omitted, and reasoning is passed under each of its names. Three values are adapted to the template:

- The content is passed as text or as a list of parts. Parts hold the places of images.
- Arguments of tool calls are passed as an object or as JSON text, so that the template writes them as JSON.
- The role ``developer`` becomes ``system`` for templates that do not mention ``developer``.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from xft.errors import TemplateError
from xft.types import IMAGE_PLACE, Message, Messages, ToolCall, Tools

JinjaMessage = dict[str, Any]
"""A message in the format that chat templates read."""
ArgumentForm = Callable[[dict[str, Any], Any], Any]
"""Maps the arguments of a call, as an object and as in the row, to the form that the template needs."""
ContentForm = Callable[[str], str | list[JinjaMessage]]
"""Maps a content to the form that the template reads: a text or a list of parts."""

REASONING_NAMES = ("thinking", "reasoning_content")
"""Names under which templates read reasoning."""
_READ_KEYS = frozenset(
    (
        "role",
        "content",
        "name",
        "tool_call_id",
        "tool_calls",
        "function_call",
        "reasoning",
        *REASONING_NAMES,
    )
)
"""Keys that are fields of :class:`Message`."""


def to_jinja_messages(
    messages: Messages,
    names: Collection[str],
    argument_form: ArgumentForm,
    content_form: ContentForm | None = None,
) -> list[JinjaMessage]:
    """Convert messages to dicts.

    Args:
        messages: messages checked by :func:`check_messages`.
        names: names that the template can read.
        argument_form: converts the arguments of tool calls.
        content_form: converts contents; ``None`` passes them as text.
    """
    fields = [_to_jinja(message, names, argument_form) for message in messages]
    if content_form is not None:
        for turn in fields:
            if isinstance(turn.get("content"), str):
                turn["content"] = content_form(turn["content"])
    return fields


def as_parts(content: str) -> list[JinjaMessage]:
    """Return a content as parts, ``{"type": "image"}`` for each place of an image, as transformers documents it."""
    texts = content.split(IMAGE_PLACE)
    parts: list[JinjaMessage] = []
    for number, text in enumerate(texts):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": text}] if text or len(texts) == 1 else []
    return parts


def _to_jinja(message: Message, names: Collection[str], argument_form: ArgumentForm) -> JinjaMessage:
    source = message.source
    if source is None:
        return _fields(message, argument_form)
    fields = _plain(source.fields, names)
    if not _is_unchanged(message, source.parsed):
        others = {key: value for key, value in fields.items() if key not in _READ_KEYS}
        return {**_fields(message, argument_form), **others}
    if fields["role"] != "developer" or "developer" not in names:
        fields["role"] = message.role
    has_content = "content" in fields or message.content
    if has_content and (message.reasoning or not isinstance(fields.get("content"), str)):
        # In ``message.content``, parts are joined and the <think> block is removed. The key may be "value".
        fields["content"] = message.content
    if message.tool_calls:
        given = fields.get("tool_calls")
        if not isinstance(given, list) or not given:  # the calls are parts of the content
            given = [{}] * len(message.tool_calls)
        fields.pop("function_call", None)
        fields["tool_calls"] = [
            _call(call, value, argument_form) for call, value in zip(message.tool_calls, given, strict=True)
        ]
    return _with_aliases(fields, message.reasoning)


def _plain(fields: Mapping[str, Any], names: Collection[str]) -> JinjaMessage:
    """Return the fields that JSON can represent; any other is an error if the template reads its key."""
    plain = {}
    for key, value in fields.items():
        if value is None:
            continue
        try:
            plain[key] = check_json(value, key)
        except TemplateError:
            if key in names:
                raise
    return plain


def _with_aliases(fields: JinjaMessage, reasoning: str) -> JinjaMessage:
    # Same order of keys as in transformers, which passes the reasoning under both names.
    return {"thinking": reasoning, **fields, "reasoning_content": reasoning} if reasoning else fields


def _is_unchanged(message: Message, parsed: Message) -> bool:
    return replace(message, is_target=parsed.is_target) == parsed


def _fields(message: Message, argument_form: ArgumentForm) -> JinjaMessage:
    """Return the fields in the format that transformers documents under "Tool use"."""
    fields: JinjaMessage = {"role": message.role, "content": message.content}
    fields = _with_aliases(fields, message.reasoning)
    if message.tool_calls:
        fields["tool_calls"] = [_call(call, {}, argument_form) for call in message.tool_calls]
    if message.name:
        fields["name"] = message.name
    if message.tool_call_id:
        fields["tool_call_id"] = message.tool_call_id
    return fields


def _call(call: ToolCall, given: Any, argument_form: ArgumentForm) -> JinjaMessage:
    """Return a call as in the row, or in the OpenAI format if the row has no ``function`` object."""
    function = given.get("function") if isinstance(given, dict) else None
    if isinstance(function, dict):
        arguments = argument_form(call.arguments, function.get("arguments"))
        outer = {key: value for key, value in given.items() if value is not None}
        return {**outer, "function": {**function, "arguments": arguments}}
    return {
        "type": "function",
        **({"id": call.id} if call.id else {}),
        "function": {"name": call.name, "arguments": argument_form(call.arguments, None)},
    }


def check_messages(messages: Messages, tools: Tools) -> list[Any]:
    """Check that a template can represent the conversation.

    Returns:
        The tools as plain JSON.

    Raises:
        TemplateError: There are no messages; a message of another role than ``assistant`` is a target, has
            reasoning or calls tools; or the tools or the arguments of a call cannot be serialized as JSON.
    """
    if not messages:
        raise TemplateError("the conversation is empty; expected at least one message", key="messages")
    for index, message in enumerate(messages):
        if message.role != "assistant" and (message.is_target or message.reasoning or message.tool_calls):
            field = (
                "be a target"
                if message.is_target
                else "have reasoning"
                if message.reasoning
                else "call tools"
            )
            raise TemplateError(
                f"turn {index + 1}: only assistant messages can {field}, not {message.role} messages",
                key="messages",
                got=message.role,
                expected="assistant",
            )
        for call in message.tool_calls:
            check_json(call.arguments, f"turn {index + 1}: the arguments of {call.name!r}")
    return [check_json(dict(tool), "tools") for tool in tools]


def check_json(value: Any, key: str) -> Any:
    """Return the value if JSON can represent it. Templates are untrusted code and get plain data only."""
    if type(value) in (str, int, float, bool, type(None)):
        return value
    if type(value) is dict and all(type(name) is str for name in value):
        return {name: check_json(item, key) for name, item in value.items()}
    if type(value) in (list, tuple):
        return [check_json(item, key) for item in value]
    raise TemplateError(
        f"{key}: got {value!r} ({type(value).__name__}); expected a JSON value", key=key, got=value
    )


def reads_reasoning(names: Collection[str]) -> bool:
    """Return whether a template that can read ``names`` reads reasoning from a field."""
    return any(name in names for name in REASONING_NAMES[:2])


def with_inline_reasoning(messages: Messages) -> Messages:
    """Return the messages with reasoning moved into the content, before the answer."""
    return [
        replace(message, content=_inline(message), reasoning="") if message.reasoning else message
        for message in messages
    ]


def _inline(message: Message) -> str:
    """Return reasoning and content as one text, as in the row or in the format of Qwen3 and DeepSeek-R1."""
    source = message.source
    if source is not None and _is_unchanged(message, source.parsed):
        content = source.fields.get("content")
        if isinstance(content, str) and content != message.content:
            return content
    return f"<think>\n{message.reasoning}\n</think>\n\n{message.content}"
