"""The page that compares runs."""

import json
from pathlib import Path

import pytest
from helpers.run_folders import ANSWERS, Parsed, assert_no_active_content, write_run

from xft.errors import ConfigError
from xft.reporting import write_comparison


def test_comparison_shows_figures_differences_curves_and_answers(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", [4.0, 2.0], ANSWERS, config="seed = 0\noptimizer = dict(lr=1e-3)\n")
    two = write_run(
        tmp_path / "two",
        [4.0, 1.0, 0.5],
        ANSWERS,
        finished=False,
        config="seed = 0\noptimizer = {'lr': 0.002}\n",
    )
    page = Parsed(write_comparison([one, two], tmp_path / "c.html").read_text(encoding="utf-8"))
    assert_no_active_content(page)
    assert "3 (not finished)" in page.by_id["figures"]
    assert "optimizer" in page.by_id["configs"]
    assert "seed" not in page.by_id["configs"]
    labels = [each["aria-label"] or "" for each in page.attributes("svg")]
    assert "Training loss: one 4 → 2, two 4 → 0.5" in labels
    assert page.by_id["questions"].count("It is metrics.jsonl.") == 2


def test_questions_about_several_images_are_compared_one_by_one(tmp_path: Path) -> None:
    answers = [
        {"step": 2, "question": "What is this?", "answer": f"A {name}.", "images": [f"{name}.png"]}
        for name in ("cat", "dog")
    ]
    runs = [write_run(tmp_path / name, [4.0, 2.0]) for name in ("one", "two")]
    for run in runs:
        (run / "generations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    page = Parsed(write_comparison(runs, tmp_path / "c.html").read_text(encoding="utf-8"))
    for name in ("cat", "dog"):
        assert page.by_id["questions"].count(f"What is this? [{name}.png]") == 1
        assert page.by_id["questions"].count(f"A {name}.") == 2


def test_comparison_of_equal_names_shows_paths(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name / "run", [4.0, 2.0]) for name in ("a", "b")]
    page = Parsed(write_comparison(runs, tmp_path / "c.html").read_text(encoding="utf-8"))
    for run in runs:
        assert str(run) in page.by_id["figures"]
    assert "identical" in page.by_id["configs"]


@pytest.mark.parametrize("count", [1, 9])
def test_comparison_needs_two_to_eight_runs(tmp_path: Path, count: int) -> None:
    with pytest.raises(ConfigError) as error:
        write_comparison([tmp_path] * count, tmp_path / "c.html")
    assert (error.value.got, error.value.expected) == (count, "2 to 8 run folders")
