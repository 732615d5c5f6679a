"""Alpaca and what is written like it: an instruction, an input, an output."""

import re
from collections.abc import Mapping
from typing import Any

from xft.data.formats.getters import get_list, get_text, type_error
from xft.data.formats.messages import assistant_message
from xft.data.formats.single_turn import join_lines, qa_messages
from xft.errors import DataError, did_you_mean
from xft.registry import register
from xft.types import Message, Row

_BLANK = re.compile(r"\{\{(\w+)\}\}")


@register("format", "alpaca")
def alpaca(
    row: Row,
    instruction: str = "instruction",
    input: str = "input",
    output: str = "output",
    system: str = "system",
    history: str = "history",
    system_text: str = "",
    fill: dict[str, str] | None = None,
    split_think: bool = True,
) -> list[Message]:
    r"""Stanford Alpaca: ``instruction``, ``input`` and ``output``; ``system`` and ``history`` beside them.

    ``input`` may be missing, empty or ``<noinput>``; otherwise it follows the instruction on a line
    of its own. An output ``<nooutput>`` is refused: the question has no answer. ``history`` holds
    earlier turns, ``[["question", "answer"], ...]``, whose answers are trained too, as in
    LLaMA-Factory. The first five arguments are the names of the columns.

    Args:
        row: the row.
        instruction: what to do.
        input: what to do it with.
        output: the answer.
        system: the system text; may be missing.
        history: earlier turns; may be missing.
        system_text: for rows without a system text of their own.
        fill: replaces ``{{word}}`` by ``fill["word"]`` in every text of the row, and refuses a word
            that it does not know. Without it, ``{{word}}`` stays as it is.
        split_think: whether an output that begins with ``<think>`` becomes reasoning and content.

    Example:
        ``{"instruction": "Add.", "input": "1 2", "output": "3"}`` → user ``Add.\n1 2``,
        assistant ``3``.
    """
    if fill is not None:
        row = _fill_row(row, (instruction, input, output, system, history), fill)
    question = get_text(row, instruction)
    extra = get_text(row, input, optional=True)
    if extra and extra != "<noinput>":
        question = f"{question}\n{extra}"
    reply = get_text(row, output)
    if reply == "<nooutput>":
        raise DataError(
            f"field {output}: got '<nooutput>', which marks a question without an answer, expected one"
        )
    rules = get_text(row, system, optional=True) or system_text
    turns = qa_messages(question, reply, rules, split_think)
    if row.get(history):
        turns[-2:-2] = _history(row, history, split_think)
    return turns


@register("format", "alpaca_zh")
def alpaca_zh(
    row: Row,
    instruction: str = "instruction_zh",
    input: str = "input_zh",
    output: str = "output_zh",
    system_text: str = "",
) -> list[Message]:
    """Chinese Alpaca of GPT-4 (``silk-road/alpaca-data-gpt4-chinese``): Alpaca's columns, with ``_zh``.

    The English columns beside them are not read. Chinese rows in Alpaca's own columns are for
    ``alpaca``.

    Example:
        ``{"instruction_zh": "相加。", "input_zh": "1 2", "output_zh": "3"}``
    """
    question = join_lines(get_text(row, instruction), get_text(row, input, optional=True))
    return qa_messages(question, get_text(row, output), system_text)


def _history(row: Row, field: str, split: bool) -> list[Message]:
    turns: list[Message] = []
    for number, each in enumerate(get_list(row, field, of="pairs of question and answer"), 1):
        path = f"{field}[{number}]"
        if not isinstance(each, list) or len(each) != 2 or not all(isinstance(part, str) for part in each):
            raise type_error(path, each, "a question and an answer, both texts")
        turns += [Message("user", each[0]), assistant_message(each[1], split)]
    return turns


def _fill_row(row: Row, fields: tuple[str, ...], fill: Mapping[str, str]) -> Row:
    """A copy of the row with the blanks of some fields filled in."""
    return {**row, **{each: _fill(row[each], each, fill) for each in fields if each in row}}


def _fill(value: Any, path: str, fill: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_fill(each, f"{path}[{number}]", fill) for number, each in enumerate(value, 1)]
    if not isinstance(value, str):
        return value  # not a text: whoever reads the field says so

    def of(found: re.Match[str]) -> str:
        word = found[1]
        if word not in fill:
            raise DataError(
                f"field {path}: got '{{{{{word}}}}}', which fill has no text for; {did_you_mean(word, fill)}"
            )
        if not isinstance(fill[word], str):
            raise type_error(f"fill[{word!r}]", fill[word], "text")
        return fill[word]

    return _BLANK.sub(of, value)
