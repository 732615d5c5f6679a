"""Answers to the rows of a held-out file, with a generator that has no model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import jinja_sources
from helpers.generators import PromptEchoGenerator, ScriptedGenerator

from xft.data import InstructionData
from xft.data.formats import alpaca, openai
from xft.errors import DataError
from xft.evaluation.heldout import BATCH_SIZE, GeneratedAnswer, answer_rows, metrics_of
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import Messages, Row


@pytest.fixture(scope="module")
def template(byte_tokenizer: Any) -> BoundTemplate:
    return ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)


def write(folder: Path, *rows: Row | str) -> str:
    file = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(file)


def qa(number: int) -> Row:
    return {"instruction": f"q{number}", "output": f" a{number}\n"}


def upper(messages: Messages) -> str | None:
    """Answer in capitals; the question q1 reaches the limit."""
    question = messages[-1].content
    return None if question == "q1" else question.upper()


def test_answer_rows_pairs_each_answer_with_the_reference_of_its_row(
    tmp_path: Path, template: BoundTemplate
) -> None:
    generator = ScriptedGenerator(upper, template)
    count = BATCH_SIZE + 3
    answers = list(answer_rows(generator, write(tmp_path, *map(qa, range(count))), alpaca, 8))
    assert answers[:2] == [
        GeneratedAnswer("q0", "a0", "Q0", True),
        GeneratedAnswer("q1", "a1", "cut", False),
    ]
    assert [answer.reference for answer in answers] == [f"a{number}" for number in range(count)]
    assert generator.batch_sizes == [BATCH_SIZE, 3]


def test_answer_rows_generates_only_the_limit(tmp_path: Path, template: BoundTemplate) -> None:
    generator = ScriptedGenerator(upper, template)
    answers = list(answer_rows(generator, write(tmp_path, *map(qa, range(5))), alpaca, 8, limit=2))
    assert [answer.question for answer in answers] == ["q0", "q1"]
    assert generator.batch_sizes == [2]


def test_answer_rows_of_several_turns_replaces_the_last(tmp_path: Path, template: BoundTemplate) -> None:
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    path = write(tmp_path, {"messages": [{"role": role, "content": text} for role, text in turns]})
    generator = ScriptedGenerator(
        lambda messages: "".join(message.content for message in messages), template
    )
    assert list(answer_rows(generator, path, openai, 8)) == [GeneratedAnswer("c", "d", "sabc", True)]


def test_answer_rows_passes_the_template_variables_of_each_row(
    tmp_path: Path, make_byte_tokenizer: Callable[..., Any]
) -> None:
    template = ChatTemplate(jinja_sources.OPENED_THOUGHT).bind(
        make_byte_tokenizer(specials=jinja_sources.SPECIALS)
    )

    row: Row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path = write(tmp_path, row, {**row, "chat_template_kwargs": {"enable_thinking": False}})
    answers = list(answer_rows(PromptEchoGenerator(template), path, openai, 8))
    assert [answer.answer.endswith("</think>\n\n") for answer in answers] == [False, True]


def ends_with_a_question(row: Row) -> Any:
    return [*alpaca(row), alpaca(row)[0]]


def fails(row: Row) -> Any:
    raise KeyError("answer")


@pytest.mark.parametrize(
    ("format", "second"),
    [
        (alpaca, '{"instruction": "q"}'),
        (alpaca, '{"instruction": '),
        (alpaca, "[1]"),
        (ends_with_a_question, '{"instruction": "q", "output": "a"}'),
        (fails, '{"instruction": "q", "output": "a"}'),
    ],
)
def test_answer_rows_invalid_row_raises_with_its_location_once(
    tmp_path: Path, template: BoundTemplate, format: Any, second: str
) -> None:
    path = write(tmp_path, *([qa(0)] if format is alpaca else []), second)
    line = 2 if format is alpaca else 1
    with pytest.raises(DataError) as error:
        list(answer_rows(ScriptedGenerator(upper, template), path, format, 8))
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert str(error.value).count(path) == 1


def test_answer_rows_invalid_field_is_the_key(tmp_path: Path, template: BoundTemplate) -> None:
    path = write(tmp_path, {"instruction": "q", "output": 3})
    with pytest.raises(DataError) as error:
        list(answer_rows(ScriptedGenerator(upper, template), path, alpaca, 8))
    assert (error.value.key, error.value.got, error.value.expected) == ("output", 3, "text")


def test_metrics_of_answers_adds_rows_and_the_stopped_fraction() -> None:
    answers = [GeneratedAnswer("q", "yes", "Yes", True), GeneratedAnswer("q", "no", "maybe", False)]
    metrics = metrics_of(answers)
    assert (metrics["rows"], metrics["stopped"], metrics["exact_match"]) == (2, 0.5, 0.5)


def test_metrics_of_no_answers_raises() -> None:
    with pytest.raises(DataError) as error:
        metrics_of([])
    assert error.value.key == "--data"


def test_answered_rows_have_the_digest_of_a_data_set(tmp_path: Path, template: BoundTemplate) -> None:
    path = write(tmp_path, *map(qa, range(3)))
    answers = list(answer_rows(ScriptedGenerator(upper, template), path, alpaca, 8, limit=2))
    data = InstructionData(path, format=alpaca, val_split=None)
    contents = data.prepare(template.tokenizer, template).train.row_field("content").tolist()
    assert [answer.content for answer in answers] == contents[:2]
