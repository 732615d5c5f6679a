from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from xft.errors import ConfigError
from xft.loggers.base import ANSWER_COLUMNS, ExperimentLogger, answer_cells, flatten, numeric_metrics


def test_numeric_metrics_leave_out_step_flags_and_texts() -> None:
    record = {"step": 3, "split": "train", "loss": 1.5, "tokens": 7, "stopped": True, "note": None}
    assert numeric_metrics(record) == {"train/loss": 1.5, "train/tokens": 7}


def test_flatten_joins_keys_and_keeps_empty_sections() -> None:
    config = {"a": {"b": {"c": 1}, "d": [2]}, "e": {}}
    assert list(flatten(config)) == [("a.b.c", "1"), ("a.d", "[2]"), ("e", "{}")]


@dataclass(eq=False)
class Tracker(ExperimentLogger):
    """A tracker without a server, or one whose package is not installed."""

    backend: ClassVar[str] = "tracker"

    installed: bool = True

    def start(self) -> None:
        if not self.installed:
            raise ImportError("No module named 'tracker'")


@pytest.mark.parametrize(("resume_step", "expected"), [(4, "abc"), (0, None)])
def test_id_of_the_previous_run_is_read_by_resumed_runs_only(
    tmp_path: Path, resume_step: int, expected: str | None
) -> None:
    first = Tracker(tmp_path, {}, resume_step)
    assert (first.resumed_id, first.name) == (None, tmp_path.name)
    first.remember_run("abc\n")
    assert Tracker(tmp_path, {}, resume_step, name="mine").resumed_id == expected


def test_missing_package_raises_config_error_with_the_logger(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        Tracker(tmp_path, {}, installed=False)
    assert error.value.key == "loggers.tracker"


def test_cells_of_an_answer_name_the_images_of_the_question() -> None:
    row = {"question": "What?", "answer": "A cat", "reference": None, "score": 1.0, "stopped": True}
    assert tuple(answer_cells(row)) == ANSWER_COLUMNS
    assert answer_cells(row)["question"] == "What?"
    assert answer_cells({**row, "images": ["pictures/cat.png"]})["question"] == "What? [cat.png]"
