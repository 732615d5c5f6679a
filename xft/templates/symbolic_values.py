"""Texts that stand for any text, in the place of what a conversation says.

A :class:`Text` can be written out, added to others, stripped and split; asked a question (does it
begin with..., is it empty?), it gives the answer for the text at hand and notes question and answer.
All else that Python or Jinja could do with a text raises :class:`Untraceable`.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xft.templates.jinja_env import tojson

Step = tuple[str, Any]
"""What was done to a text: a way to strip and its characters, ``split`` and (separator, index), or
``tojson`` and its options."""
Question = tuple["Hole", str, Any]
"""A hole, what was asked of its text, and the other operand."""


class Untraceable(Exception):
    """The template did something with a text that is not followed here."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in the rendering that a text fills.

    Attributes:
        index: which text.
        steps: what is done to it first.
    """

    index: int
    steps: tuple[Step, ...] = ()

    def filler(self) -> Callable[[Any], str] | None:
        """What turns the text into what stands in the hole; ``None`` where nothing is done to it."""
        functions = [_function(*step) for step in self.steps]
        if len(functions) < 2:
            return functions[0] if functions else None

        def fill(value: Any) -> str:
            for each in functions:
                value = each(value)
            return str(value)

        return fill


def _function(name: str, argument: Any) -> Callable[[Any], str]:
    if name == "split":
        separator, index = argument
        return lambda value: value.split(separator)[index]
    if name == "tojson":
        return lambda value: tojson(value, **dict(argument))
    return getattr(str, name) if argument is None else operator.methodcaller(name, argument)


Part = str | Hole


class Closed:
    """An object that no template can look into."""

    __slots__ = ()

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise Untraceable

    __getattr__ = __getitem__ = __call__ = _refuse
    __bool__ = __len__ = __iter__ = __contains__ = __reversed__ = __index__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __mod__ = __rmod__ = __mul__ = __rmul__ = (
        _refuse
    )
    __eq__ = __ne__ = __hash__ = __str__ = __repr__ = __format__ = _refuse


class Trace:
    """What is noted of one rendering.

    Attributes:
        values: the texts at hand, by index.
        answers: to all questions, in the order they were asked.
    """

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values
        self.answers: dict[Question, bool] = {}

    def ask(self, hole: Hole, question: str, operand: Any = None) -> bool:
        """Answer a question for the text at hand, and note it."""
        key = (hole, question, operand)
        if key not in self.answers:
            self.answers[key] = answerer(hole, question, operand)(self.values[hole.index])
        return self.answers[key]


def answerer(hole: Hole, question: str, operand: Any) -> Callable[[Any], bool]:
    """What answers a question, given the text of the hole."""
    if question == "is not empty":
        test: Callable[[Any], bool] = bool
    elif question == "equals":
        test = operator.methodcaller("__eq__", operand)
    elif question == "contains":
        test = operator.methodcaller("__contains__", operand)
    else:
        test = operator.methodcaller(question, operand)
    fill = hole.filler()
    return test if fill is None else lambda value: test(fill(value))


class Text(Closed):
    """A text of which the template knows nothing but what it asks for.

    Args:
        trace: where questions are noted.
        parts: what it is made of.
    """

    __slots__ = ("_parts", "_trace")

    def __init__(self, trace: Trace, parts: tuple[Part, ...]) -> None:
        self._trace = trace
        self._parts = parts

    def __add__(self, other: Any) -> "Text":
        return Text(self._trace, (*self._parts, *_parts_of(other)))

    def __radd__(self, other: Any) -> "Text":
        return Text(self._trace, (*_parts_of(other), *self._parts))

    def __bool__(self) -> bool:
        if any(isinstance(each, str) and each for each in self._parts):
            return True
        return self._trace.ask(self._hole(), "is not empty")

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Closed):
            raise Untraceable
        return isinstance(other, str) and self._trace.ask(self._hole(), "equals", other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = Closed._refuse

    def __contains__(self, other: Any) -> bool:
        return self._trace.ask(self._hole(), "contains", _plain(other))

    def startswith(self, prefix: Any) -> bool:
        """As of ``str``, with one prefix."""
        return self._trace.ask(self._hole(), "startswith", _plain(prefix))

    def endswith(self, suffix: Any) -> bool:
        """As of ``str``, with one suffix."""
        return self._trace.ask(self._hole(), "endswith", _plain(suffix))

    def strip(self, characters: Any = None) -> "Text":
        """As of ``str``."""
        return self._stripped("strip", characters)

    def lstrip(self, characters: Any = None) -> "Text":
        """As of ``str``."""
        return self._stripped("lstrip", characters)

    def rstrip(self, characters: Any = None) -> "Text":
        """As of ``str``."""
        return self._stripped("rstrip", characters)

    def split(self, separator: Any) -> "Split":
        """As of ``str``; only the first and the last piece can be taken."""
        return Split(self, _plain(separator))

    def _then(self, step: Step) -> "Text":
        hole = self._hole()
        return Text(self._trace, (Hole(hole.index, (*hole.steps, step)),))

    def _hole(self) -> Hole:
        if len(self._parts) == 1 and isinstance(self._parts[0], Hole):
            return self._parts[0]
        raise Untraceable

    def _stripped(self, how: str, characters: Any) -> "Text":
        characters = None if characters is None else _plain(characters)
        if len(self._parts) == 1:
            return self._then((how, characters))
        parts = list(self._parts)
        for at, side in ((0, "lstrip"), (-1, "rstrip")):
            part = parts[at]
            if how in ("strip", side):
                stripped = getattr(part, side)(characters) if isinstance(part, str) else ""
                if not stripped:  # what stands behind it may have to be stripped too
                    raise Untraceable
                parts[at] = stripped
        return Text(self._trace, tuple(parts))


class Split(Closed):
    """What :meth:`Text.split` gives."""

    __slots__ = ("_separator", "_text")

    def __init__(self, text: Text, separator: str) -> None:
        if not separator:
            raise Untraceable
        self._text = text
        self._separator = separator

    def __getitem__(self, index: Any) -> Text:
        if type(index) is not int or index not in (0, -1):
            raise Untraceable
        return self._text._then(("split", (self._separator, index)))


class Arguments(Closed):
    """The arguments of a tool call: can only be written as JSON."""

    __slots__ = ("_index", "_trace")

    def __init__(self, trace: Trace, index: int) -> None:
        self._trace = trace
        self._index = index

    def _as_json(self, options: tuple[tuple[str, Any], ...]) -> Text:
        return Text(self._trace, (Hole(self._index, (("tojson", options),)),))


def _plain(value: Any) -> str:
    if type(value) is not str:
        raise Untraceable
    return value


def _parts_of(value: Any) -> tuple[Part, ...]:
    return value._parts if isinstance(value, Text) else (_plain(value),)
