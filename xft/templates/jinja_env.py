"""Build the Jinja environment that chat templates expect, and render with it.

Chat templates are written for the environment of ``apply_chat_template`` in transformers: a sandbox, trimmed blocks,
loop controls, ``raise_exception``, ``strftime_now``, a ``tojson`` without HTML escapes, the special tokens by name, and
the variables ``messages``, ``tools``, ``documents`` and ``add_generation_prompt``. This module builds the same
environment without transformers, and compiles each source once; tests compare the two. One difference:
``strftime_now`` returns one fixed date, so that all rows of a data set carry the same date.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from xft.errors import TemplateError
from xft.templates.message_fields import ArgumentForm, to_jinja_messages
from xft.types import Message, Messages, ToolCall
from xft.utils.console import escape_line


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
        names: names that the source can read.
        uses_current_date: whether it can write the date.

    Raises:
        TemplateError: The source is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, Any], now: datetime) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)
        self._now = now
        self.names = undeclared_names(source)
        self.uses_current_date = "strftime_now" in self.names

    def render(
        self,
        messages: Messages,
        tools: Sequence[Any] = (),
        generation: bool = False,
        template_kwargs: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """Render messages as text.

        Args:
            messages: messages checked by ``check_messages``.
            tools: tools as plain JSON.
            generation: end with the generation prompt.
            template_kwargs: other variables of the template.

        Raises:
            TemplateError: The template refuses the messages.
        """
        return self._render(messages, self._argument_form, tools, generation, template_kwargs)

    def _render(
        self,
        messages: Messages,
        argument_form: ArgumentForm,
        tools: Sequence[Any] = (),
        generation: bool = False,
        template_kwargs: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        turns = to_jinja_messages(messages, self.names, argument_form)
        variables = {
            **self._special_tokens,
            "documents": None,
            "strftime_now": self._now.strftime,
            **template_kwargs,
            "messages": turns,
            "tools": list(tools) or None,
            "add_generation_prompt": generation,
        }
        template = compile_source(self.source)
        try:
            return template.render(variables)
        except Exception as error:
            if any("content" not in turn for turn in turns):
                # Some templates concatenate the content of a tool call, which may be missing.
                with suppress(Exception):
                    return template.render(
                        {**variables, "messages": [{"content": "", **turn} for turn in turns]}
                    )
            roles = ", ".join(message.role for message in messages[:8])
            roles += ", ..." if len(messages) > 8 else ""
            raise TemplateError(
                f"the chat template refuses the messages ({escape_line(roles)}): {escape_line(str(error))}",
                key="template",
                got=roles,
            ) from error

    def _argument_form(self, arguments: dict[str, Any], given: Any) -> Any:
        """Return the arguments of a call as the row has them, if the template writes that form as JSON."""
        forms = self._argument_forms
        if "text" in forms and isinstance(given, str):
            return given
        return json.dumps(arguments, ensure_ascii=False) if forms == {"text"} else arguments

    @cached_property
    def _argument_forms(self) -> frozenset[str]:
        """Forms in which the template takes arguments: ``object``, and ``text`` if it does not escape JSON text."""
        text = '{"argument": "value"}'
        call = Message("assistant", "", tool_calls=(ToolCall("function", json.loads(text), "call00001"),))
        forms = set()
        for form, value in (("object", json.loads(text)), ("text", text)):
            with suppress(TemplateError):
                rendered = self._render([Message("user", "question"), call], lambda *_, value=value: value)
                forms |= {form} if form == "object" or text in rendered else set()
        return frozenset(forms)


def special_tokens_of(tokenizer: Any) -> dict[str, Any]:
    """Return the special tokens of a tokenizer by name, as ``apply_chat_template`` passes them."""
    tokens = getattr(tokenizer, "special_tokens_map", {})
    return {
        name: [str(token) for token in value] if isinstance(value, list | tuple) else str(value)
        for name, value in tokens.items()
    }
