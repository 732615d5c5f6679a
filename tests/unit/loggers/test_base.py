from pathlib import Path

import pytest

from xft.errors import ConfigError
from xft.loggers import MLflow, WandB
from xft.loggers.base import flatten, numeric_metrics, previous_run_id


def test_numeric_metrics_leave_out_step_flags_and_texts() -> None:
    record = {"step": 3, "split": "train", "loss": 1.5, "tokens": 7, "stopped": True, "note": None}
    assert numeric_metrics(record) == {"loss": 1.5, "tokens": 7}


def test_flatten_joins_keys_and_keeps_empty_sections() -> None:
    config = {"a": {"b": {"c": 1}, "d": [2]}, "e": {}}
    assert list(flatten(config)) == [("a.b.c", "1"), ("a.d", "[2]"), ("e", "{}")]


@pytest.mark.parametrize(("resume_step", "expected"), [(4, "abc"), (0, None)])
def test_previous_run_id_is_read_by_resumed_runs_only(
    tmp_path: Path, resume_step: int, expected: str | None
) -> None:
    file = tmp_path / "wandb_run_id"
    assert previous_run_id(file, resume_step) is None
    file.write_text("abc\n")
    assert previous_run_id(file, resume_step) == expected


@pytest.mark.parametrize("logger", [WandB, MLflow])
def test_not_installed_names_the_logger(logger: type[WandB] | type[MLflow]) -> None:
    error = logger.not_installed()
    assert isinstance(error, ConfigError)
    assert error.key == f"loggers.{logger.backend}"
