"""Sample questions from validation rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xft.data import InstructionData, Mixture, PreferenceData, SampleView, TextData
from xft.evaluation.val_questions import MAX_QUESTIONS, val_questions
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import Row


@pytest.fixture(scope="module")
def template(byte_tokenizer: Any) -> BoundTemplate:
    return ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)


@pytest.fixture
def prepare(tmp_path: Path, byte_tokenizer: Any, template: BoundTemplate) -> Callable[..., Any]:
    """Write rows, and prepare them with a validation split."""

    def make(rows: list[Row], kind: Any = InstructionData, **keys: Any) -> tuple[Any, SampleView]:
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        data = kind(str(file), num_workers=1, cache_dir=str(tmp_path / "cache"), **keys)
        return data, data.prepare(byte_tokenizer, template).val

    return make


def turn(role: str, text: str) -> Row:
    return {"role": role, "content": text}


def test_questions_are_validation_rows_with_their_answers(prepare: Callable[..., Any]) -> None:
    data, val = prepare(
        [{"message": f"q{number}", "reply": f"a{number}"} for number in range(60)], val_split=10
    )
    prompts = val_questions(data, val)
    assert len(prompts) == MAX_QUESTIONS
    held_out = {int(val.origin(index).rpartition(":")[2]) for index in range(10)}
    for prompt in prompts:
        number = int(prompt.question[1:])
        assert number + 1 in held_out
        assert (prompt.reference, prompt.scorer, prompt.system) == (f"a{number}", "f1", None)


def test_each_answer_is_asked_for_once(prepare: Callable[..., Any]) -> None:
    rows = [{"question": f"q{number}", "answer": f"a{number % 2}"} for number in range(20)]
    prompts = val_questions(*prepare(rows, val_split=10))
    assert sorted(str(prompt.reference) for prompt in prompts) == ["a0", "a1"]


def test_system_text_is_that_of_the_row_or_of_the_dataset(prepare: Callable[..., Any]) -> None:
    rows: list[Row] = [
        {"messages": [turn("system", "Be kind."), turn("user", "q0"), turn("assistant", "a0")]},
        {"messages": [turn("user", "q1"), turn("assistant", "a1")]},
        {"messages": [turn("user", "q2"), turn("assistant", "a2")]},
    ]
    prompts = val_questions(*prepare(rows, val_split=2, system="Be brief."))
    assert {prompt.question: prompt.system for prompt in prompts}.items() <= {
        ("q0", "Be kind."),
        ("q1", "Be brief."),
        ("q2", "Be brief."),
    }
    assert len(prompts) == 2


def test_rows_of_several_questions_are_left_out(prepare: Callable[..., Any]) -> None:
    talks = [[turn("user", f"q{number}"), turn("assistant", "a")] * 2 for number in range(4)]
    data, val = prepare([{"messages": talk} for talk in talks], val_split=2)
    assert len(val) == 2
    assert val_questions(data, val) == []


def test_preference_pairs_have_no_reference(prepare: Callable[..., Any]) -> None:
    rows = [{"prompt": f"q{number}", "chosen": "good", "rejected": "bad"} for number in range(8)]
    prompts = val_questions(*prepare(rows, PreferenceData, val_split=3))
    assert len(prompts) == 3
    assert {prompt.reference for prompt in prompts} == {None}


def test_text_and_mixtures_have_no_questions(prepare: Callable[..., Any]) -> None:
    data, val = prepare([{"text": f"Once {number}"} for number in range(8)], TextData, val_split=3)
    assert len(val) == 3
    assert val_questions(data, val) == []
    assert val_questions(Mixture({"one": data}), val) == []


def test_validation_file_is_read(prepare: Callable[..., Any], tmp_path: Path) -> None:
    held_out = tmp_path / "val.csv"
    held_out.write_text("question,answer\nWhere?,Here\n", encoding="utf-8")
    data, val = prepare([{"question": "Who?", "answer": "Me"}], val_split=str(held_out))
    [prompt] = val_questions(data, val)
    assert (prompt.question, prompt.reference) == ("Where?", "Here")
