"""Map columns of any table."""

from collections.abc import Iterable
from functools import lru_cache
from string import Formatter

from xft.data.formats.getters import get_text, missing_field_error, parse_bool
from xft.data.formats.images import get_images
from xft.data.formats.messages import assistant_message
from xft.data.formats.single_turn import qa_messages
from xft.errors import ConfigError, IdenticalAnswersError
from xft.registry import register
from xft.types import Message, PreferencePair, Row, UnpairedExample

TemplateParts = tuple[tuple[str, str | None], ...]
"""Parsed text template: pairs of literal text and the column after it."""


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
    r"""Any table: name the column of the user's turn and of the assistant's turn; no code needed.

    Each argument is the name of a column, or a text with names in braces, ``user="{title}\n\n{body}"`` (write a
    literal brace twice). Accepted combinations: ``user`` and ``assistant`` for questions and answers; these with
    ``label`` (true or false) for KTO; ``user``, ``chosen`` and ``rejected`` for preference pairs; ``text`` for
    continued pretraining. Every named column must exist and hold text; only ``system`` may be empty. The columns
    ``images`` and ``image`` hold images of the question.

    Args:
        row: the row.
        user: question.
        assistant: answer.
        system: system text.
        chosen: preferred answer.
        rejected: other answer.
        label: column with true for a desirable answer.
        text: raw text.
        system_text: system text of rows whose ``system`` is empty, or of all rows.
        split_think: split an answer that starts with ``<think>`` into reasoning and content.

    Raises:
        ConfigError: the arguments are no accepted combination, or a text template is invalid.
        DataError: a column is missing or invalid, or both answers are equal.

    Example:
        ``dict(type='columns', user='question', assistant='reply')`` reads
        ``{"question": "Hi", "reply": "Hello"}``
    """
    named = {"user": user, "assistant": assistant, "chosen": chosen, "rejected": rejected, "label": label}
    named["text"] = text
    used = tuple(name for name, column in named.items() if column)
    if used == ("text",) and system is None and not system_text:
        return _fill_template(text, row)
    if used not in _COMBINATIONS:
        got = ", ".join(used) or "nothing"
        raise ConfigError(key="format.columns", got=got, expected=_EXPECTED)
    system_text = (_system_text(system, row) if system is not None else "") or system_text
    question, images = _fill_template(user, row), get_images(row, _columns_of(named.values()))
    if not assistant:
        answers = _fill_template(chosen, row), _fill_template(rejected, row)
        prompt = qa_messages(question, "", system_text, images=images)[:-1]
        return _pair(prompt, answers, split_think, (chosen, rejected))
    messages = qa_messages(question, _fill_template(assistant, row), system_text, split_think, images)
    if not label:
        return messages
    if row.get(label) is None:
        raise missing_field_error(row, label, expected="true or false")
    return UnpairedExample(messages[:-1], messages[-1:], parse_bool(row[label], label))


_COMBINATIONS = {("user", "assistant"), ("user", "assistant", "label"), ("user", "chosen", "rejected")}
_EXPECTED = (
    "user and assistant; user, assistant and label; user, chosen and rejected; or text alone; each the name of a "
    "column"
)


def _pair(
    prompt: list[Message], answers: tuple[str, str], split_think: bool, fields: tuple[str, str]
) -> PreferencePair:
    chosen, rejected = answers
    if chosen == rejected:
        raise IdenticalAnswersError(
            "the chosen and the rejected answer are the same, so nothing is preferred",
            key=fields[0],
            got=chosen,
            expected="two different answers",
        )
    return PreferencePair(
        prompt, [assistant_message(chosen, split_think)], [assistant_message(rejected, split_think)]
    )


def _system_text(template: str, row: Row) -> str:
    if template in row and row[template] is None:
        return ""
    return _fill_template(template, row)


def _fill_template(template: str, row: Row) -> str:
    """Return the text of a column, or a text template filled with columns."""
    if "{" not in template and "}" not in template:
        return get_text(row, template)
    return "".join(
        [
            literal if column is None else literal + get_text(row, column)
            for literal, column in _parse_template(template)
        ]
    )


def _columns_of(templates: Iterable[str]) -> set[str | None]:
    """Return the columns that text templates read."""
    parts = [
        part
        for template in templates
        for part in (_parse_template(template) if "{" in template else ((template, template),))
    ]
    return {column for _, column in parts}


@lru_cache(maxsize=256)
def _parse_template(template: str) -> TemplateParts:
    """Parse a text template.

    Text in braces is used as a key of the row only, so attributes and items of values are out of reach.
    """
    parts = []
    try:
        for literal, column, spec, conversion in Formatter().parse(template):
            if column == "" or spec or conversion:
                raise ValueError("expected only the name of a column in each pair of braces")
            parts.append((literal, column))
    except ValueError as error:
        expected = "a text such as '{title} {body}', with '{{' for a literal brace"
        raise ConfigError(
            f"format columns: got {template!r} ({error}); expected {expected}",
            key="format.columns",
            got=template,
            expected=expected,
        ) from error
    return tuple(parts)
