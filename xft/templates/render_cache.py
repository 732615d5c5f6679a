"""Segments from a plan: what is the same in all conversations of one shape is found once.

The shape of a conversation is who speaks, and which turns are trained. A plan is made of the trace
of one rendering (see ``tracing``): the fixed text between the places where contents go, cut where
trained pieces begin and end. It is used for every conversation of the shape that gives the same
answers to the questions that the template asked, so it gives the text that the template would.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xft.errors import TemplateError
from xft.templates.delimiters import Turn
from xft.templates.jinja_env import Renderer, as_turns
from xft.templates.symbolic_render import written
from xft.templates.symbolic_values import Arguments, Hole, Part, Question, Text, Trace, answerer
from xft.types import Message, Messages, Segment

Filler = Callable[[Any], str] | None
MAX_TURNS = 64
"""Plans of longer conversations are not kept: they are large, and few are alike."""
MAX_PLANS = 2048
"""As many are kept; then all are forgotten."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to write the segments of a conversation.

    Attributes:
        holes: for each hole in the order of the text, which text goes there and what is done to it.
        pieces: for each segment its text, with ``%s`` for each hole, its first hole and the one
            behind its last, and whether it is trained.
        complete: whether every text of the system, the user and a tool, and every answer, goes into
            the text with nothing but white space stripped, every tool call too.
    """

    holes: list[tuple[int, Filler]]
    pieces: list[tuple[str, int, int, bool]]
    complete: bool

    def fill(self, values: Sequence[Any]) -> list[Segment]:
        """The segments of a conversation with these texts."""
        filled = tuple([values[at] if do is None else do(values[at]) for at, do in self.holes])
        texts = [(text % filled[first:end], trained) for text, first, end, trained in self.pieces]
        return [Segment(text, trained) for text, trained in texts if text]


class Branch:
    """A question that the template asks, and where each answer leads."""

    __slots__ = ("answer", "index", "question", "ways")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.index = question[0].index
        self.answer = answerer(*question)
        self.ways: dict[bool, Node] = {}


Node = Branch | Plan | None
"""``None``: the template cannot be followed there."""


class Plans:
    """The plans of one template.

    Args:
        renderer: of the template.
        turn: what opens and closes the assistant's turn.
    """

    def __init__(self, renderer: Renderer, turn: Turn) -> None:
        self._renderer = renderer
        self._turn = turn
        self._roots: dict[tuple[Any, ...], Node] = {}
        self._count = 0

    def find(self, key: tuple[Any, ...], values: Sequence[str]) -> tuple[bool, Plan | None]:
        """Look for the plan of a conversation.

        Args:
            key: its shape.
            values: its texts.

        Returns:
            Whether it is known how to go about such a conversation; and the plan, if there is one.
        """
        if key not in self._roots:
            return False, None
        node = self._roots[key]
        while isinstance(node, Branch):
            answer = node.answer(values[node.index])
            if answer not in node.ways:
                return False, None
            node = node.ways[answer]
        return True, node

    def make(
        self, messages: Messages, tools: Sequence[Any], full: str, key: tuple[Any, ...] | None
    ) -> list[Segment] | None:
        """Make the plan of a conversation, and keep it under ``key`` if that is given.

        Args:
            messages: the conversation.
            tools: what it offers, as plain JSON.
            full: its text, which the plan must give.
            key: its shape; ``None`` where it has tools or tool calls, or is long.

        Returns:
            The segments; ``None`` where the template cannot be followed, or a turn cannot be trained.
        """
        values = values_of(messages)
        trace = Trace(values)
        turns = _symbolic(messages, trace)
        parts = written(self._renderer.source, self._renderer.variables(turns, tools))
        plan = None if parts is None else _plan(parts, messages, self._turn)
        segments = None if plan is None else plan.fill(values)
        if segments is not None and "".join([each.text for each in segments]) != full:
            plan = segments = None  # never seen, and never to be trusted
        if key is not None:
            self._keep(key, trace, plan)
        return segments

    def _keep(self, key: tuple[Any, ...], trace: Trace, plan: Plan | None) -> None:
        self._count += 1
        if self._count > MAX_PLANS:
            self._roots.clear()
            self._count = 1
        if not trace.answers:
            self._roots[key] = plan
            return
        way: tuple[Branch, bool] | None = None
        for question, answer in trace.answers.items():
            node = self._roots.get(key) if way is None else way[0].ways.get(way[1])
            if not isinstance(node, Branch):
                node = Branch(question)
                if way is None:
                    self._roots[key] = node
                else:
                    way[0].ways[way[1]] = node
            way = (node, answer)
        assert way is not None
        way[0].ways[way[1]] = plan


def values_of(messages: Messages) -> list[Any]:
    """The texts of a conversation, as plans number them: contents, reasonings, then the name and the
    arguments of each tool call."""
    calls = [part for each in messages for call in each.tool_calls for part in (call.name, call.arguments)]
    return [each.content for each in messages] + [each.reasoning for each in messages] + calls


def _owners(messages: Messages) -> list[int]:
    """For each of :func:`values_of`, the number of its message."""
    numbers = list(range(len(messages)))
    return numbers * 2 + [at for at, each in enumerate(messages) for _ in each.tool_calls for _ in (0, 1)]


def _symbolic(messages: Messages, trace: Trace) -> list[dict[str, Any]]:
    turns = as_turns(messages)
    index = 2 * len(messages)
    for at, turn in enumerate(turns):
        turn["content"] = Text(trace, (Hole(at),))
        if "thinking" in turn:
            turn["thinking"] = turn["reasoning_content"] = Text(trace, (Hole(len(messages) + at),))
        for call in turn.get("tool_calls", ()):
            function = call["function"]
            function["name"] = Text(trace, (Hole(index),))
            function["arguments"] = Arguments(trace, index + 1)
            index += 2
    return turns


def _plan(parts: list[Part], messages: Messages, turn: Turn) -> Plan | None:
    holes = [each for each in parts if isinstance(each, Hole)]
    gaps: list[list[str]] = [[]]
    for each in parts:
        if isinstance(each, Hole):
            gaps.append([])
        else:
            gaps[-1].append(each)
    texts = ["".join(gap) for gap in gaps]
    owners = _owners(messages)
    try:
        cuts = _cuts([owners[each.index] for each in holes], texts, messages, turn)
    except TemplateError:
        return None
    if cuts is None:
        return None
    fillers = [(each.index, each.filler()) for each in holes]
    return Plan(fillers, _pieces(texts, cuts), _is_complete(holes, messages))


def _cuts(
    owners: list[int], gaps: list[str], messages: Messages, turn: Turn
) -> list[tuple[int, int]] | None:
    """Where trained pieces begin and end, by turns: the number of a gap, and a place in it."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    apart: set[int] = set()
    for place, owner in enumerate(owners):
        if owner in last and last[owner] != place - 1:
            apart.add(owner)
        first.setdefault(owner, place)
        last[owner] = place
    cuts: list[tuple[int, int]] = []
    for at, message in enumerate(messages):
        if message.is_target:
            if at not in first or at in apart:
                return None  # it stands nowhere, or in two places
            begin, end = first[at], last[at] + 1
            cuts.append((begin, turn.start(gaps[begin], at)))
            cuts.append((end, turn.end(gaps[end], at, message)))
    return cuts if cuts == sorted(cuts) else None


def _pieces(gaps: list[str], cuts: list[tuple[int, int]]) -> list[tuple[str, int, int, bool]]:
    pieces = []
    start = (0, 0)
    for number, stop in enumerate([*cuts, (len(gaps) - 1, len(gaps[-1]))]):
        if start[0] == stop[0]:
            texts = [gaps[start[0]][start[1] : stop[1]]]
        else:
            texts = [gaps[start[0]][start[1] :], *gaps[start[0] + 1 : stop[0]], gaps[stop[0]][: stop[1]]]
        text = "%s".join(each.replace("%", "%%") for each in texts)
        pieces.append((text, start[0], stop[0], number % 2 == 1))
        start = stop
    return pieces


def _is_complete(holes: list[Hole], messages: Messages) -> bool:
    whole = {each.index for each in holes if all(_only_strips(*step) for step in each.steps)}
    shown = {each.index for each in holes}
    count = 2 * len(messages)
    calls = range(count, count + 2 * sum(len(each.tool_calls) for each in messages))
    return whole.issuperset(range(len(messages))) and shown.issuperset(calls)


def _only_strips(step: str, characters: Any) -> bool:
    return step in ("strip", "lstrip", "rstrip") and (characters is None or not characters.strip())


def shape(messages: Sequence[Message]) -> tuple[Any, ...]:
    """Under what the plan of a conversation without tools and tool calls is kept."""
    return tuple([part for each in messages for part in (each.role, each.is_target, not each.reasoning)])
