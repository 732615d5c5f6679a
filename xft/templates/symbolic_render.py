"""Render with texts that stand for any text: where each of them ends up, and why.

The template runs on the objects of ``symbols`` in the place of contents and reasonings, which note
every question that it asks of them. So of a rendering that comes to its end it is known what it
looked at: for other texts of which all noted questions have the same answers, it takes the same way,
and its text differs in the noted places only.

What could see a text without asking it is kept away: filters and tests are only those known to be
harmless (others are unknown here, and end the trace), and a source with blocks that gather their
output into a plain string (macros, ``{% set %}`` blocks, ...) is not traced at all.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from xft.templates.jinja_env import environment, tojson
from xft.templates.symbolic_values import Arguments, Closed, Part, Split, Text, Untraceable

GATHERING = (
    nodes.Macro,
    nodes.CallBlock,
    nodes.FilterBlock,
    nodes.AssignBlock,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Extends,
    nodes.Block,
    nodes.EvalContextModifier,
)
ENDS = (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError)
"""What a template may raise, traced or not."""
_NOT_OUTPUT = "\x00not output\x00"


class Written(str):
    """What the template writes where it writes a ``Text``."""

    __slots__ = ("parts",)
    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return self


def _write(value: Any) -> Any:
    if not isinstance(value, Text):
        return value
    written = Written(_NOT_OUTPUT)
    written.parts = value._parts
    return written


def _trim(value: Any, characters: str | None = None) -> Any:
    return (value if isinstance(value, Text) else str(value)).strip(characters)


def _tojson(value: Any, **options: Any) -> Any:
    return (
        value._as_json(tuple(options.items())) if isinstance(value, Arguments) else tojson(value, **options)
    )


# Each of these touches a text only by operations that ``Closed`` refuses or ``Text`` answers.
_FILTERS = (
    *("default", "d", "length", "count", "list", "first", "last", "reverse", "join", "string", "upper"),
    *("lower", "capitalize", "title", "map", "select", "reject", "selectattr", "rejectattr"),
)
_OF_TEXT = {"defined", "string", "iterable", "sequence"}
_OF_ARGUMENTS = {"defined", "mapping", "iterable", "sequence"}
_OF_TYPE = {
    *(_OF_TEXT | _OF_ARGUMENTS | {"undefined", "none", "number", "boolean", "integer", "float"}),
    *("true", "false", "callable"),
}


def _test(name: str, original: Callable[..., bool]) -> Callable[..., bool]:
    def test(value: Any, *others: Any) -> bool:
        if name not in _OF_TYPE:
            return original(value, *others)
        if isinstance(value, Split):
            raise Untraceable
        if isinstance(value, Closed):
            return name in (_OF_TEXT if isinstance(value, Text) else _OF_ARGUMENTS)
        return original(value, *others)

    return test


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    made = environment(finalize=_write)
    kept = {name: made.filters[name] for name in _FILTERS}
    made.filters.clear()
    made.filters.update(kept, trim=_trim, tojson=_tojson)
    compared = ("eq", "==", "equalto", "ne", "!=", "in")
    tests: dict[str, Any] = made.tests
    made.tests = {name: _test(name, tests[name]) for name in (*_OF_TYPE, *compared)}
    made.globals.pop("lipsum")  # it is random
    return made


@lru_cache(maxsize=64)
def compile_traced(source: str) -> jinja2.Template | None:
    """Compile a valid source for tracing; ``None`` where it cannot be traced."""
    tree = _environment().parse(source)
    if next(tree.find_all(GATHERING), None) or any(each.recursive for each in tree.find_all(nodes.For)):
        return None
    try:
        return _environment().from_string(source)
    except jinja2.TemplateError:
        return None


def written(source: str, variables: dict[str, Any]) -> list[Part] | None:
    """Render with variables that hold ``Text``: what is written, part by part.

    Returns:
        ``None`` where the rendering cannot be followed, or ends in an error.
    """
    template = compile_traced(source)
    if template is None:
        return None
    parts: list[Part] = []
    try:
        for piece in template.generate(variables):
            if isinstance(piece, Written):
                parts += piece.parts
            elif _NOT_OUTPUT in piece:
                return None
            else:
                parts.append(piece)
    except (Untraceable, *ENDS):
        return None
    return parts
