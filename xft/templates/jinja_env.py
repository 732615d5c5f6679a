"""Jinja as chat templates are written for it: the environment, and one compiled source.

Chat templates are written for what ``apply_chat_template`` of transformers gives them: a sandbox,
blocks that leave no white space behind, loop controls, ``raise_exception``, ``strftime_now``, a
``tojson`` that escapes nothing, the special tokens by name, and the variables ``messages``,
``tools``, ``documents`` and ``add_generation_prompt``. The same is built here, without
transformers, so that a source is compiled once; tests compare the two. One thing differs:
``strftime_now`` tells one fixed moment, so that a data set carries one date from first row to last.
"""

import json
from collections.abc import Callable, Mapping, Sequence
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

Turn = dict[str, Any]
"""A message as a template sees it."""


class Generation(Extension):
    """``{% generation %}``: marks what the assistant says. Here it is written like any other text."""

    tags = {"generation"}  # noqa: RUF012 - the name and the type are Jinja's

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class SafeNamespace(Namespace):
    """Jinja's namespace, closed to names that begin with an underscore: a template is a stranger's
    code, and such names lead into Python itself."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        # ``self`` is among ``args`` so that a template can use that name too.
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
    """JSON as models are shown it: nothing escaped for web pages."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def environment(**options: Any) -> ImmutableSandboxedEnvironment:
    """A fresh environment; ``options`` are Jinja's."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, LoopControlExtension], **options
    )
    made.filters["tojson"] = tojson
    made.globals.update(raise_exception=_raise_exception, dict=_dict, namespace=SafeNamespace)
    return made


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    return environment()


@lru_cache(maxsize=64)
def compile_source(source: str) -> jinja2.Template:
    """Compile a source, once.

    Raises:
        TemplateError: it is not valid Jinja.
    """
    try:
        return _environment().from_string(source)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            f"template: it is not valid Jinja (line {error.lineno}: {error.message}); mend its source"
        ) from error


@lru_cache(maxsize=64)
def names_in(source: str) -> frozenset[str]:
    """Every variable, attribute and string constant of a source: what it can ask for by name.

    Raises:
        TemplateError: it is not valid Jinja.
    """
    compile_source(source)
    tree = _environment().parse(source)
    found = {node.name for node in tree.find_all(nodes.Name)}
    found |= {node.attr for node in tree.find_all(nodes.Getattr)}
    return frozenset(
        found | {each.value for each in tree.find_all(nodes.Const) if isinstance(each.value, str)}
    )


class Renderer:
    """Renders turns with one source.

    Args:
        source: of the template.
        special_tokens: by name, e.g. ``{"bos_token": "<s>"}``.
        moment: what ``strftime_now`` tells.

    Attributes:
        reads_reasoning: whether the source asks for a message's reasoning as a field of its own.
        reads_tools: whether it asks for the tools.
        dated: whether it can write the date of ``moment``.

    Raises:
        TemplateError: the source is not valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, Any], moment: datetime) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)
        self._moment = moment
        names = names_in(source)
        self.reads_reasoning = not names.isdisjoint(("reasoning_content", "thinking"))
        self.reads_tools = "tools" in names
        self.dated = "strftime_now" in names

    def variables(
        self, turns: Sequence[Turn], tools: Sequence[Any] = (), generation: bool = False
    ) -> dict[str, Any]:
        """All that the template can ask for."""
        return {
            **self._special_tokens,
            "messages": turns,
            "tools": list(tools) or None,
            "documents": None,
            "add_generation_prompt": generation,
            "strftime_now": self._strftime,
        }

    def text(self, turns: Sequence[Turn], tools: Sequence[Any] = (), generation: bool = False) -> str:
        """Render turns.

        Raises:
            TemplateError: the template refuses them.
        """
        template = compile_source(self.source)
        try:
            return template.render(self.variables(turns, tools, generation))
        except Exception as error:
            roles = ", ".join(each["role"] for each in turns[:8]) + (", ..." if len(turns) > 8 else "")
            raise TemplateError(f"the chat template refuses the turns ({roles}): {error}") from error

    def _strftime(self, layout: str) -> str:
        return self._moment.strftime(layout)


def as_turns(messages: Messages, text: Callable[[int, str], Any] = lambda at, value: value) -> list[Turn]:
    """Messages as templates know them: the format that transformers documents under "Tool use".

    Args:
        messages: checked by :func:`check_messages`.
        text: what to put in the place of a content or a reasoning, given the number of the message;
            by default the text itself.
    """
    turns: list[Turn] = []
    for at, each in enumerate(messages):
        turn: Turn = {"role": each.role, "content": text(at, each.content)}
        if each.reasoning:
            # Transformers gives it by both names, this one first.
            turn = {"thinking": text(at, each.reasoning), **turn}
            turn["reasoning_content"] = turn["thinking"]
        if each.tool_calls:
            turn["tool_calls"] = [
                {
                    "type": "function",
                    **({"id": call.id} if call.id else {}),
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in each.tool_calls
            ]
        if each.name:
            turn["name"] = each.name
        turns.append(turn)
    return turns


def check_messages(messages: Messages, tools: Tools) -> list[Any]:
    """Refuse what no template can mean.

    Returns:
        The tools as plain JSON.

    Raises:
        TemplateError: nothing is said, a turn other than the assistant's is trained, reasons or calls
            functions, or the arguments of a call or the tools are not what JSON can hold.
    """
    if not messages:
        raise TemplateError("the conversation is empty, expected at least one turn")
    for at, each in enumerate(messages):
        if each.role != "assistant":
            what = "trained" if each.is_target else "given reasoning" if each.reasoning else ""
            if what or each.tool_calls:
                raise TemplateError(
                    f"turn {at + 1}: only the assistant's turns can be {what or 'given tool calls'}, "
                    f"not the {each.role}'s"
                )
        for call in each.tool_calls:
            _check_json(call.arguments, f"turn {at + 1}: the arguments of {call.name!r}")
    return [_check_json(dict(each), "tools") for each in tools]


def _check_json(value: Any, where: str) -> Any:
    """The value itself, if JSON can hold it. A template is a stranger's code, and shall be given
    nothing that can do more than be read."""
    if type(value) in (str, int, float, bool, type(None)):
        return value
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: _check_json(each, where) for key, each in value.items()}
    if type(value) in (list, tuple):
        return [_check_json(each, where) for each in value]
    raise TemplateError(f"{where}: got {value!r} ({type(value).__name__}), expected what JSON can hold")


def special_tokens_of(tokenizer: Any) -> dict[str, Any]:
    """The special tokens of a tokenizer by name, as ``apply_chat_template`` gives them."""
    given = getattr(tokenizer, "special_tokens_map", {})
    return {
        name: [str(each) for each in value] if isinstance(value, list | tuple) else str(value)
        for name, value in given.items()
    }


def with_inline_reasoning(message: Message) -> str:
    """The content of a message behind its reasoning, as Qwen3, DeepSeek-R1 and most others write it."""
    return f"<think>\n{message.reasoning}\n</think>\n\n{message.content}"
