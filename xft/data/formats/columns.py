"""A map of columns, for any table that no other format fits."""

from functools import lru_cache
from string import Formatter

from xft.data.formats.getters import get_text, missing_field_error, parse_bool
from xft.data.formats.messages import assistant_message
from xft.data.formats.single_turn import qa_messages
from xft.errors import ConfigError, DataError
from xft.registry import register
from xft.types import Message, PreferencePair, Row, UnpairedExample

Pieces = tuple[tuple[str, str | None], ...]
"""A text template: literal text and the column behind it, one after the other."""


@register("format", "columns")
def columns(
    row: Row,
    user: str = "",
    assistant: str = "",
    system: str | None = None,
    chosen: str = "",
    rejected: str = "",
    label: str = "",
    text: str = "",
    system_text: str = "",
    split_think: bool = True,
) -> list[Message] | PreferencePair | UnpairedExample | str:
    r"""Any table: say which column is the user's turn and which the assistant's; no code needed.

    Each argument is the name of a column, or a text with names in braces,
    ``user="{title}\n\n{body}"`` (a brace itself is written twice). Give ``user`` and ``assistant``
    for questions and answers; with a ``label`` (true or false) for KTO; ``user``, ``chosen`` and
    ``rejected`` for preference pairs; ``text`` for continued pretraining. Every column that is
    named must be there and hold text; only a ``system`` column may be empty.

    Args:
        row: the row.
        user: what is asked.
        assistant: what is answered.
        system: the system text.
        chosen: the better answer.
        rejected: the worse answer.
        label: the column that says whether the answer is wanted.
        text: raw text.
        system_text: for rows whose ``system`` is empty, or for all.
        split_think: whether an answer that begins with ``<think>`` becomes reasoning and content.

    Raises:
        ConfigError: the arguments make no row, or a text is not one of column names in braces.

    Example:
        ``dict(type='columns', user='question', assistant='reply')`` reads
        ``{"question": "Hi", "reply": "Hello"}``
    """
    given = (bool(user), bool(assistant), bool(chosen), bool(rejected), bool(label), bool(text))
    if given == (False, False, False, False, False, True) and system is None and not system_text:
        return _write(text, row)
    if given not in _MEANT:
        raise ConfigError(
            "format columns: got "
            + (_say(given) or "nothing")
            + ", expected user and assistant; user, assistant "
            "and label; user, chosen and rejected; or text alone; each the name of a column"
        )
    rules = (_rules(system, row) if system is not None else "") or system_text
    question = _write(user, row)
    if not assistant:
        return _pair(question, _write(chosen, row), _write(rejected, row), rules, split_think)
    turns = qa_messages(question, _write(assistant, row), rules, split_think)
    if not label:
        return turns
    if row.get(label) is None:
        raise missing_field_error(row, label, expected="true or false")
    return UnpairedExample(turns[:-1], turns[-1:], parse_bool(row[label], label))


_NAMES = ("user", "assistant", "chosen", "rejected", "label", "text")
_MEANT = {
    (True, True, False, False, False, False),
    (True, True, False, False, True, False),
    (True, False, True, True, False, False),
}


def _say(given: tuple[bool, ...]) -> str:
    return ", ".join([name for name, there in zip(_NAMES, given, strict=True) if there])


def _pair(question: str, better: str, worse: str, rules: str, split: bool) -> PreferencePair:
    if better == worse:
        raise DataError("the chosen and the rejected answer are the same, so nothing is preferred")
    before = [*qa_messages(question, "", rules)][:-1]
    return PreferencePair(before, [assistant_message(better, split)], [assistant_message(worse, split)])


def _rules(template: str, row: Row) -> str:
    if template in row and row[template] is None:
        return ""
    return _write(template, row)


def _write(template: str, row: Row) -> str:
    """A column's text, or a text template with the columns' texts in it."""
    if "{" not in template and "}" not in template:
        return get_text(row, template)
    return "".join(
        [
            literal if column is None else literal + get_text(row, column)
            for literal, column in _pieces(template)
        ]
    )


@lru_cache(maxsize=256)
def _pieces(template: str) -> Pieces:
    """Take a text template apart. What stands in braces is a name and nothing else: it is looked
    up in the row as it is, so neither an attribute nor an item of a value can be reached."""
    pieces = []
    try:
        for literal, column, spec, conversion in Formatter().parse(template):
            if column == "" or spec or conversion:
                raise ValueError("expected the name of a column, alone, in each pair of braces")
            pieces.append((literal, column))
    except ValueError as error:
        raise ConfigError(
            f"format columns: {template!r} cannot be read ({error}); write '{{title}} {{body}}', and '{{{{' for a brace"
        ) from error
    return tuple(pieces)
