import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.run_folders import write_run

from xft.reporting.outcome import Change, Outcome, describe, outcome_of, verdict, warnings
from xft.reporting.run_folder import RunFolder, read_run


def outcome(folder: Path, split: str, values: dict[int, float], **run: object) -> Outcome:
    """The outcome of a run of 9 steps with these scores by step."""
    write_run(folder, [2.0] * 9, run=run)
    records = [
        {"step": step, "split": split, "score": value, "num_scored": 10} for step, value in values.items()
    ]
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as out:
        out.writelines(json.dumps(record) + "\n" for record in records)
    return outcome_of(read_run(folder))


def test_score_decides_and_a_better_earlier_model_is_a_warning(tmp_path: Path) -> None:
    result = outcome(tmp_path / "run", "generation", {0: 2, 5: 8, 9: 5}, seconds=75, final_step=9)
    assert result.score is not None
    assert (result.score.gain, result.score.lost, result.score.best_step) == (3, 3, 5)
    assert verdict(result) == "better: the score went from 2 to 5"
    assert describe(result.score) == "2 → 5 of 10 (best: 8 at step 5)"
    assert result.seconds == 75
    (warning,) = warnings(result, RunFolder(tmp_path))
    assert "at step 5: score 5, not 8" in warning


@pytest.mark.parametrize("split", ["generation", "val"])
def test_a_model_that_only_got_worse_is_a_warning_without_a_better_checkpoint(
    tmp_path: Path, split: str
) -> None:
    result = outcome(tmp_path / "run", "generation", {0: 6, 5: 3, 9: 4} if split == "generation" else {})
    if split == "val":
        loss = Change("loss", 1.5, 2.0, 9, 1.5, 0)
        result = replace(result, validation=loss)
    (warning,) = warnings(result, RunFolder(tmp_path))
    assert warning.startswith("no step is better than the model before training")
    assert "optimizer.lr" in warning
    assert "inspect-data" in warning
    assert "metric_for_best_model" not in warning


def test_final_weights_of_an_earlier_step_have_the_score_of_that_step(tmp_path: Path) -> None:
    result = outcome(tmp_path / "run", "generation", {0: 2, 5: 8, 9: 5}, final_step=5)
    assert result.score is not None
    assert (result.score.after, result.score.lost) == (8, 0)
    assert list(warnings(result, RunFolder(tmp_path))) == []


def test_validation_decides_without_scores_and_a_lower_loss_is_better(tmp_path: Path) -> None:
    result = outcome(tmp_path / "run", "none", {})
    assert verdict(result) == "better: the validation loss went from 4 to 2"
    assert result.score is None
    assert result.validation is not None
    assert (result.validation.gain, result.validation.lost) == (2, 0)


@pytest.mark.parametrize(("after", "forgets"), [(5, False), (6, False), (4, False), (3, True)])
def test_a_lower_score_of_general_questions_is_a_warning(
    tmp_path: Path, after: float, forgets: bool
) -> None:
    result = outcome(tmp_path / "run", "general", {0: 5, 9: after})
    assert [
        warning.startswith("the model forgets") for warning in warnings(result, RunFolder(tmp_path))
    ] == [True] * forgets


@pytest.mark.parametrize(
    ("values", "words"),
    [({0: 3, 9: 3}, "no change"), ({0: 3, 9: 1}, "worse"), ({9: 1}, "not measured before")],
)
def test_verdict_states_no_change_a_decline_and_a_missing_first_score(
    tmp_path: Path, values: dict[int, float], words: str
) -> None:
    assert words in verdict(outcome(tmp_path / "run", "generation", values))


def test_run_without_any_measurement_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.py").touch()
    assert verdict(outcome_of(read_run(tmp_path))).startswith("nothing was measured")


@pytest.mark.parametrize(
    ("references", "count"), [(["1", "2", "3"], 1), (["1", "1", "1"], 0), (["1", "2"], 0)]
)
def test_the_same_answer_to_several_questions_is_a_warning(
    tmp_path: Path, references: list[str], count: int
) -> None:
    records = [
        {"step": 9, "question": f"Q{number}", "answer": "Yes.", "reference": reference, "score": 0.0}
        for number, reference in enumerate(references)
    ]
    lines = list(warnings(outcome(tmp_path / "run", "none", {}), RunFolder(tmp_path, generations=records)))
    assert [f"{len(references)} of {len(references)} sample questions" in line for line in lines] == [
        True
    ] * count
