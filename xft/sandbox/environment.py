"""Jinja environment that chat templates expect, as in ``apply_chat_template`` of transformers."""

import json
from typing import Any, NoReturn, TypeVar

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class Generation(Extension):
    """Accept ``{% generation %}``, which marks assistant text, and render the block like any other text."""

    tags = {"generation"}  # noqa: RUF012 - Jinja defines the name and the type

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the block as a scope."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class SafeNamespace(Namespace):
    """Jinja's namespace without names that start with an underscore.

    A template is untrusted code, and such names give access to Python internals.
    """

    def __init__(*args: object, **kwargs: object) -> None:
        # ``self`` is part of ``args`` so that a template can use the name ``self``.
        values = dict(*args[1:], **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: object) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        # Omit the values: namespaces that contain each other would have an exponentially long repr.
        return "<Namespace>"


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}: it begins with '_'")


def tojson(
    value: object,
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


def _dict(*args: object, **kwargs: object) -> dict[Any, Any]:
    return dict(*args, **kwargs)


Env = TypeVar("Env", bound=ImmutableSandboxedEnvironment)


def environment(kind: type[Env], **options: object) -> Env:
    """Return a new environment; ``options`` are passed to Jinja."""
    env = kind(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, LoopControlExtension], **options
    )
    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=_raise_exception, dict=_dict, namespace=SafeNamespace)
    return env
