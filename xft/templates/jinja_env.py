"""Build the Jinja environment that chat templates expect, and render with it.

Chat templates are written for the environment of ``apply_chat_template`` in transformers: a sandbox,
trimmed blocks, loop controls, ``raise_exception``, ``strftime_now``, a ``tojson`` without HTML escapes, the
special tokens by name, and the variables ``messages``, ``tools``, ``documents`` and
``add_generation_prompt``. This module builds the same environment without transformers, and compiles each
template once. Tests compare the two environments. One difference: ``strftime_now`` formats a fixed date, so
that all rows of a data set have the same date.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from xft.errors import TemplateError
from xft.sandbox.environment import environment
from xft.sandbox.in_process import MAX_SOURCE, InProcessEnvironment, is_supported
from xft.sandbox.isolation import render_isolated
from xft.sandbox.operation_limits import NeedsIsolation
from xft.templates.message_fields import ArgumentForm, ContentForm, as_parts, to_jinja_messages
from xft.types import IMAGE_PLACE, Message, Messages, Tokenizer, ToolCall
from xft.utils.console import escape_line


@lru_cache(maxsize=1)
def _in_process_environment() -> InProcessEnvironment:
    env = environment(InProcessEnvironment)
    env.limit_filters()
    return env


@lru_cache(maxsize=64)
def _parse(source: str) -> nodes.Template:
    """Parse a source; the result is cached.

    Raises:
        TemplateError: The source is not valid Jinja.
    """
    try:
        tree = _in_process_environment().parse(source)
        list(tree.find_all(nodes.Node))  # recursive, like the compiler
        return tree
    except jinja2.TemplateSyntaxError as error:
        raise _syntax_error(f"line {error.lineno}: {error.message}") from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise _syntax_error(
            f"{type(error).__name__}: nested too deeply, or a number is too long"
        ) from error


@lru_cache(maxsize=64)
def compile_source(source: str) -> jinja2.Template | None:
    """Compile a template for this process; the result is cached.

    Returns:
        The compiled template; ``None`` if it must be rendered in a worker process.

    Raises:
        TemplateError: The source is not valid Jinja.
    """
    tree = _parse(source)
    if len(source) > MAX_SOURCE or not is_supported(tree):
        return None
    return _compile(_in_process_environment(), source)


def _compile(env: ImmutableSandboxedEnvironment, source: str) -> jinja2.Template:
    try:
        template = env.from_string(source)
        template.globals = dict(template.globals)  # each rendering copies them, and a ChainMap slowly
        return template
    except jinja2.TemplateSyntaxError as error:
        raise _syntax_error(f"line {error.lineno}: {error.message}") from error
    except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
        raise _syntax_error(f"{type(error).__name__}: {error}") from error


def _syntax_error(reason: str) -> TemplateError:
    return TemplateError(
        f"template: not valid Jinja ({escape_line(reason)}); fix the source", key="template"
    )


@lru_cache(maxsize=64)
def referenced_names(source: str) -> frozenset[str]:
    """Return all variables, attributes and string constants of a template: the names that it can read.

    Raises:
        TemplateError: The source is not valid Jinja.
    """
    tree = _parse(source)
    names = {node.name for node in tree.find_all(nodes.Name)}
    names |= {node.attr for node in tree.find_all(nodes.Getattr)}
    names |= {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    return frozenset(names)


class TemplateRenderer:
    """Render messages with one template.

    Args:
        source: Jinja source.
        special_tokens: special tokens by name, e.g. ``{"bos_token": "<s>"}``.
        now: date that ``strftime_now`` formats.

    Attributes:
        names: names that the template can read.
        uses_current_date: whether the template can write the date.

    Raises:
        TemplateError: The source is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, Any], now: datetime) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)
        self._now = now
        self.names = referenced_names(source)
        compile_source(source)
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
            generation: whether to end with the generation prompt.
            template_kwargs: other variables of the template.

        Raises:
            TemplateError: The template raises an error for these messages.
        """
        return self._render(
            messages, self._argument_form, tools, generation, template_kwargs, self._content_form
        )

    def _render(
        self,
        messages: Messages,
        argument_form: ArgumentForm,
        tools: Sequence[Any] = (),
        generation: bool = False,
        template_kwargs: Mapping[str, Any] = MappingProxyType({}),
        content_form: ContentForm | None = None,
    ) -> str:
        turns = to_jinja_messages(messages, self.names, argument_form, content_form)
        variables = {
            **self._special_tokens,
            "documents": None,
            "strftime_now": self._now.strftime,
            **template_kwargs,
            "messages": turns,
            "tools": list(tools) or None,
            "add_generation_prompt": generation,
        }
        try:
            return self._render_text(variables)
        except Exception as error:
            if any("content" not in turn for turn in turns):
                # Some templates concatenate the content of a message with tool calls, which may be missing.
                with suppress(Exception):
                    return self._render_text(
                        {**variables, "messages": [{"content": "", **turn} for turn in turns]}
                    )
            roles = ", ".join(message.role for message in messages[:8])
            roles += ", ..." if len(messages) > 8 else ""
            raise TemplateError(
                f"the chat template refuses the messages ({escape_line(roles)}): {escape_line(str(error))}",
                key="template",
                got=roles,
            ) from error

    def _render_text(self, variables: Mapping[str, Any]) -> str:
        """Render in this process if time and memory can be bounded, otherwise in a worker process."""
        template = compile_source(self.source)
        if template is not None:
            _in_process_environment().start()
            with suppress(NeedsIsolation):
                return template.render(variables)
        return render_isolated(self.source, variables)

    @cached_property
    def _content_form(self) -> ContentForm | None:
        """Form of contents that the template reads; ``None`` for text.

        Templates of vision-language models read parts, and some of them no texts: a text, which is a sequence of
        characters, is lost or written one character at a time.
        """
        if not {"image", "content"} <= self.names:
            return None

        def shows(content_form: ContentForm | None, content: str) -> bool:
            with suppress(TemplateError):
                text = self._render(
                    [Message("user", content)], lambda value, _: value, (), False, {}, content_form
                )
                return "question" in text and "'type'" not in text and IMAGE_PLACE not in text
            return False

        if not shows(as_parts, f"{IMAGE_PLACE}question"):
            return None
        if not shows(None, "question"):
            return as_parts
        return lambda content: as_parts(content) if IMAGE_PLACE in content else content

    def _argument_form(self, arguments: dict[str, Any], given: object) -> Any:
        """Return the arguments of a call, in the form of the row if the template writes it as JSON."""
        forms = self._argument_forms
        if "text" in forms and isinstance(given, str):
            return given
        return json.dumps(arguments, ensure_ascii=False) if forms == {"text"} else arguments

    @cached_property
    def _argument_forms(self) -> frozenset[str]:
        """Forms of arguments that the template accepts: ``object``, and ``text`` if it is not escaped."""
        text = '{"argument": "value"}'
        call = Message("assistant", "", tool_calls=(ToolCall("function", json.loads(text), "call00001"),))
        forms = set()
        for form, value in (("object", json.loads(text)), ("text", text)):
            with suppress(TemplateError):
                rendered = self._render([Message("user", "question"), call], lambda *_, value=value: value)
                forms |= {form} if form == "object" or text in rendered else set()
        return frozenset(forms)


def special_tokens_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the special tokens of a tokenizer by name, as ``apply_chat_template`` passes them."""
    return {
        name: [str(token) for token in value] if isinstance(value, list | tuple) else str(value)
        for name, value in tokenizer.special_tokens_map.items()
    }
