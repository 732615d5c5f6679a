"""Warnings before a run, of rows and questions that show recall only."""

from pathlib import Path

import numpy as np
import pytest
from helpers.token_stores import write_store

from xft.data import DataReport, InstructionData, Mixture, PreparedData, SampleView
from xft.evaluation import EvalPrompt
from xft.models import CausalLMConfig
from xft.reporting.data_warnings import data_warnings
from xft.run_config.config import RunConfig
from xft.templates import BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Sample, Tokenizer


@pytest.fixture
def template(smollm2_tokenizer: Tokenizer) -> BoundTemplate:
    return ChatTemplate().bind(smollm2_tokenizer)


def _warn(
    folder: Path,
    template: BoundTemplate,
    train: list[tuple[str, str]],
    val: list[tuple[str, str]],
    questions: tuple[str, ...] = (),
    path: str = "rows.jsonl",
    eval_prompts: str = "questions.jsonl",
) -> list[str]:
    """The warnings of a run on these questions and answers."""

    def sample(question: str, answer: str) -> Sample:
        text = template.render(EvalPrompt(question).conversation(), generation=True)
        prompt, target = (
            template.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, answer)
        )
        labels = [IGNORE_INDEX] * len(prompt) + target
        return Sample(np.array(prompt + target, np.int32), np.array(labels, np.int32))

    store = write_store(folder, [[sample(*row)] for row in (*train, *val)])
    views = (np.arange(len(train)), np.arange(len(train), len(train) + len(val)))
    prepared = PreparedData(*(SampleView([(store, rows)]) for rows in views), DataReport())
    data = InstructionData(path, format=len)  # type: ignore[arg-type]
    config = RunConfig(CausalLMConfig("x"), data, eval_prompts=eval_prompts)
    prompts = [EvalPrompt(question) for question in questions]
    return list(data_warnings(config, prepared, template, template.tokenizer, prompts))


@pytest.mark.parametrize(("val", "count"), [(["Red."], 1), (["Red.", "Blue."], 0), ([], 0)])
def test_validation_answers_that_all_occur_in_training_are_a_warning(
    tmp_path: Path, template: BoundTemplate, val: list[str], count: int
) -> None:
    lines = _warn(
        tmp_path, template, [("A?", "Red."), ("B?", "Green.")], [("C?", answer) for answer in val]
    )
    assert [line.startswith(f"all answers of the {len(val)} validation") for line in lines] == [
        True
    ] * count


@pytest.mark.parametrize(
    ("answers", "count"),
    [
        (["yes", "no"], 0),
        (["In the archive on the second floor, next to the door.", "In the cellar."], 1),
    ],
)
def test_labels_of_a_classification_are_no_warning(
    tmp_path: Path, template: BoundTemplate, answers: list[str], count: int
) -> None:
    train = [(f"Question {number}?", answers[number % 2]) for number in range(20)]
    assert len(_warn(tmp_path, template, train, [("Another?", answers[0])])) == count


def test_questions_of_training_rows_are_a_warning_with_the_row(
    tmp_path: Path, template: BoundTemplate
) -> None:
    rows = [("Which color?", "Red."), ("Which shape?", "Round.")]
    (line,) = _warn(tmp_path, template, rows, [], ("Which shape?", "Which size?"))
    assert line.startswith("1 of 2 sample questions")
    assert "'Which shape?'" in line
    assert ":2" in line  # the second row


@pytest.mark.parametrize(
    ("systems", "own", "count"),
    [(("A.", "B."), None, 1), (("A.", "B."), "C.", 0), (("A.", "A."), "A.", 0), (("A.", ""), None, 1)],
)
def test_questions_without_the_system_message_of_a_dataset_are_a_warning(
    systems: tuple[str, str], own: str | None, count: int
) -> None:
    datasets = {name: InstructionData("a", system=text) for name, text in zip("ab", systems, strict=True)}
    config = RunConfig(CausalLMConfig("x"), Mixture(datasets))
    prompts = [EvalPrompt("Which?", system=own)]
    prepared = PreparedData(SampleView([]), SampleView([]), DataReport())
    lines = list(data_warnings(config, prepared, None, None, prompts))  # type: ignore[arg-type]
    assert len(lines) == count


def test_reasoning_that_the_template_leaves_out_is_a_warning() -> None:
    prepared = PreparedData(SampleView([]), SampleView([]), DataReport(rows_without_reasoning=1200))
    config = RunConfig(CausalLMConfig("x"), InstructionData("a"))
    (line,) = data_warnings(config, prepared, None, None, [])  # type: ignore[arg-type]
    assert "1,200 rows" in line


@pytest.mark.parametrize(
    ("path", "eval_prompts", "count"),
    [
        ("rows.jsonl", "xft://facts_questions.jsonl", 1),
        ("xft://facts.jsonl", "xft://facts_questions.jsonl", 0),
        ("rows.jsonl", "questions.jsonl", 0),
    ],
)
def test_shipped_questions_with_other_rows_are_a_warning(
    tmp_path: Path, template: BoundTemplate, path: str, eval_prompts: str, count: int
) -> None:
    lines = _warn(tmp_path, template, [("A?", "B.")], [], path=path, eval_prompts=eval_prompts)
    assert [line.startswith("eval_prompts=xft://") for line in lines] == [True] * count
