"""Read Alpaca rows: an instruction, an input, an output."""

import re
from collections.abc import Mapping
from typing import Any

from xft.data.formats.getters import field_error, get_list, get_text, type_error
from xft.data.formats.images import get_images
from xft.data.formats.messages import assistant_message
from xft.data.formats.single_turn import join_lines, qa_messages
from xft.errors import did_you_mean
from xft.registry import register
from xft.types import Message, Row

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


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
    r"""Stanford Alpaca: ``instruction``, ``input`` and ``output``; optionally ``system`` and ``history``.

    ``input`` may be missing, empty or ``<noinput>``; otherwise it follows the instruction on a separate line. An
    output ``<nooutput>`` is an error: the question has no answer. ``history`` holds earlier turns,
    ``[["question", "answer"], ...]``; their answers are targets too, as in LLaMA-Factory. The first five arguments
    are the names of the columns. The columns ``images`` and ``image`` hold images of the question.

    Args:
        row: the row.
        instruction: task.
        input: input of the task.
        output: answer.
        system: system text; may be missing.
        history: earlier turns; may be missing.
        system_text: system text of rows without one.
        fill: replaces ``{{word}}`` by ``fill["word"]`` in all texts of the row; an unknown word is an error. Without
            it, ``{{word}}`` stays unchanged.
        split_think: split an output that starts with ``<think>`` into reasoning and content.

    Example:
        ``{"instruction": "Add.", "input": "1 2", "output": "3"}`` → user ``Add.\n1 2``,
        assistant ``3``.
    """
    images = get_images(row, (instruction, input, output))
    if fill is not None:
        row = _fill_row(row, (instruction, input, output, system, history), fill)
    question = alpaca_question(row, instruction, input)
    reply = get_text(row, output)
    if reply == "<nooutput>":
        raise field_error(
            output, "got '<nooutput>', the mark of a question without an answer", "an answer", reply
        )
    rules = get_text(row, system, optional=True) or system_text
    turns = qa_messages(question, reply, rules, split_think, images)
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

    The English columns are not read. For Chinese rows with Alpaca's column names use ``alpaca``.

    Example:
        ``{"instruction_zh": "相加。", "input_zh": "1 2", "output_zh": "3"}``
    """
    question = join_lines(get_text(row, instruction), get_text(row, input, optional=True))
    return qa_messages(question, get_text(row, output), system_text)


def alpaca_question(row: Row, instruction: str, input: str) -> str:
    """Return the instruction, with the input on a separate line if there is one."""
    extra = get_text(row, input, optional=True)
    return join_lines(get_text(row, instruction), "" if extra == "<noinput>" else extra)


def _history(row: Row, field: str, split: bool) -> list[Message]:
    turns: list[Message] = []
    for number, pair in enumerate(get_list(row, field, of="pairs of question and answer"), 1):
        path = f"{field}[{number}]"
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise type_error(path, pair, "a question and an answer, both texts")
        turns += [Message("user", pair[0]), assistant_message(pair[1], split)]
    return turns


def _fill_row(row: Row, fields: tuple[str, ...], fill: Mapping[str, str]) -> Row:
    """Return a copy of the row with the placeholders of some fields filled."""
    # The items of a dict, unlike those of a tracked row, do not count as read.
    return {
        **dict(dict.items(row)),
        **{field: _fill_template(row[field], field, fill) for field in fields if field in row},
    }


def _fill_template(value: object, path: str, fill: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_fill_template(item, f"{path}[{number}]", fill) for number, item in enumerate(value, 1)]
    if not isinstance(value, str):
        return value  # not a text: get_text raises the error

    def replacement(match: re.Match[str]) -> str:
        word = match[1]
        if word not in fill:
            raise field_error(
                path, f"got {match[0]!r}", "a key of fill", match[0], did_you_mean(word, fill)
            )
        if not isinstance(fill[word], str):
            raise type_error(f"fill[{word!r}]", fill[word], "text")
        return fill[word]

    return _PLACEHOLDER.sub(replacement, value)
