"""Build the Jinja environment that chat templates expect, and render with it.

Chat templates are written for the environment of ``apply_chat_template`` in transformers: a sandbox, trimmed blocks,
loop controls, ``raise_exception``, ``strftime_now``, a ``tojson`` without HTML escapes, the special tokens by name, and
the variables ``messages``, ``tools``, ``documents`` and ``add_generation_prompt``. This module builds the same
environment without transformers, and compiles each source once; tests compare the two. One difference:
``strftime_now`` returns one fixed date, so that all rows of a data set carry the same date.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from xft.errors import TemplateError
from xft.types import Message, Messages, Tools
from xft.utils.console import escape_line

JinjaMessage = dict[str, Any]
"""A message in the format that chat templates read."""


class Generation(Extension):
    """``{% generation %}`` marks assistant text. Here the block is rendered like any other text."""

    tags = {"generation"}  # noqa: RUF012 - the name and the type are Jinja's

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the block as a scope."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class SafeNamespace(Namespace):
    """Jinja's namespace without names that start with an underscore.

    A template is untrusted code, and such names give access to Python internals.
    """

    def __init__(*args: Any, **kwargs: Any) -> None:
        # ``self`` is part of ``args`` so that a template can use the name ``self``.
        values = dict(*args[1:], **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}: it begins with '_'")


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Serialize to JSON without HTML escapes."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def environment(**options: Any) -> ImmutableSandboxedEnvironment:
    """Return a new environment; ``options`` are passed to Jinja."""
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, LoopControlExtension], **options
    )
    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=_raise_exception, dict=_dict, namespace=SafeNamespace)
    return env


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    return environment()


@lru_cache(maxsize=64)
def compile_source(source: str) -> jinja2.Template:
    """Compile a source; the result is cached.

    Raises:
        TemplateError: The source is not valid Jinja.
    """
    try:
        return _environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"template: not valid Jinja (line {error.lineno}: {error.message}); fix the source",
            key="template",
        ) from error


@lru_cache(maxsize=64)
def undeclared_names(source: str) -> frozenset[str]:
    """Return all variables, attributes and string constants of a source: the names that it can read.

    Raises:
        TemplateError: The source is not valid Jinja.
    """
    compile_source(source)
    tree = _environment().parse(source)
    names = {node.name for node in tree.find_all(nodes.Name)}
    names |= {node.attr for node in tree.find_all(nodes.Getattr)}
    names |= {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    return frozenset(names)


class TemplateRenderer:
    """Render messages with one source.

    Args:
        source: Jinja source.
        special_tokens: special tokens by name, e.g. ``{"bos_token": "<s>"}``.
        now: date that ``strftime_now`` formats.

    Attributes:
        reads_reasoning: whether the source reads the reasoning of a message as a separate field.
        reads_tools: whether it reads the tools.
        uses_current_date: whether it can write the date.

    Raises:
        TemplateError: The source is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, Any], now: datetime) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)
        self._now = now
        names = undeclared_names(source)
        self.reads_reasoning = not names.isdisjoint(("reasoning_content", "thinking"))
        self.reads_tools = "tools" in names
        self.uses_current_date = "strftime_now" in names

    def render(
        self, messages: Sequence[JinjaMessage], tools: Sequence[Any] = (), generation: bool = False
    ) -> str:
        """Render messages as text.

        Raises:
            TemplateError: The template refuses the messages.
        """
        variables = {
            **self._special_tokens,
            "messages": messages,
            "tools": list(tools) or None,
            "documents": None,
            "add_generation_prompt": generation,
            "strftime_now": self._now.strftime,
        }
        template = compile_source(self.source)
        try:
            return template.render(variables)
        except Exception as error:
            roles = ", ".join(message["role"] for message in messages[:8])
            roles += ", ..." if len(messages) > 8 else ""
            raise TemplateError(
                f"the chat template refuses the messages ({escape_line(roles)}): {escape_line(str(error))}",
                key="template",
                got=roles,
            ) from error


def to_jinja_messages(messages: Messages) -> list[JinjaMessage]:
    """Convert messages to the format that transformers documents under "Tool use".

    Args:
        messages: messages checked by :func:`check_messages`.
    """
    converted: list[JinjaMessage] = []
    for message in messages:
        fields: JinjaMessage = {"role": message.role, "content": message.content}
        if message.reasoning:
            # transformers passes the reasoning under both names, this one first.
            fields = {"thinking": message.reasoning, **fields, "reasoning_content": message.reasoning}
        if message.tool_calls:
            fields["tool_calls"] = [
                {
                    "type": "function",
                    **({"id": call.id} if call.id else {}),
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.tool_calls
            ]
        if message.name:
            fields["name"] = message.name
        converted.append(fields)
    return converted


def check_messages(messages: Messages, tools: Tools) -> list[Any]:
    """Check that the conversation is one that a template can represent.

    Returns:
        The tools as plain JSON.

    Raises:
        TemplateError: There are no messages; a message that is not the assistant's is a target, has reasoning or calls
            tools; or the arguments of a call or the tools cannot be serialized as JSON.
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
            _check_json(call.arguments, f"turn {index + 1}: the arguments of {call.name!r}")
    return [_check_json(dict(tool), "tools") for tool in tools]


def _check_json(value: Any, key: str) -> Any:
    """Return the value if JSON can represent it. Templates are untrusted code and get plain data only."""
    if type(value) in (str, int, float, bool, type(None)):
        return value
    if type(value) is dict and all(type(name) is str for name in value):
        return {name: _check_json(item, key) for name, item in value.items()}
    if type(value) in (list, tuple):
        return [_check_json(item, key) for item in value]
    raise TemplateError(
        f"{key}: got {value!r} ({type(value).__name__}); expected a JSON value", key=key, got=value
    )


def special_tokens_of(tokenizer: Any) -> dict[str, Any]:
    """Return the special tokens of a tokenizer by name, as ``apply_chat_template`` passes them."""
    tokens = getattr(tokenizer, "special_tokens_map", {})
    return {
        name: [str(token) for token in value] if isinstance(value, list | tuple) else str(value)
        for name, value in tokens.items()
    }


def with_inline_reasoning(message: Message) -> str:
    """Return reasoning and content as one text, in the format of Qwen3, DeepSeek-R1 and most others."""
    return f"<think>\n{message.reasoning}\n</think>\n\n{message.content}"
