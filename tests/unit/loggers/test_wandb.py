import json
import time
from pathlib import Path
from typing import Any

import pytest
import wandb
from helpers.log_file import log_records
from helpers.resumed_logger import CONFIG, write_steps

from xft.errors import ConfigError
from xft.loggers import WandB


def _history(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a W&B file. A separate process writes it, and may end after the run."""
    from wandb.proto.wandb_internal_pb2 import Record

    deadline, parsed = time.monotonic() + 60, []
    while not any(record.HasField("exit") for record in parsed):
        assert time.monotonic() < deadline, "W&B has not ended its file"
        time.sleep(0.05)
        parsed = [Record.FromString(record) for record in log_records(file)]
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in parsed
        if record.HasField("history")
    ]


def test_offline_run_logs_the_steps_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandB(tmp_path, CONFIG, mode="offline")
    write_steps(logger, [1, 2, 4])
    logger.close()
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows = _history(file)
    assert [(row["_step"], row["step"], row["train/loss"]) for row in rows] == [
        (step, step, float(step)) for step in (1, 2, 4)
    ]
    assert [row["_step"] for row in rows if "generations/nrows" in row] == [2, 4]


class _ServerRun:
    """Run of a server that has the steps up to 7."""

    id, step = "abc", 8

    def __init__(self) -> None:
        self.sent: list[int] = []

    def log(self, values: dict[str, Any], step: int) -> None:
        self.sent.append(step)


def test_resumed_run_sends_only_steps_that_the_server_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _ServerRun()
    requested: dict[str, Any] = {}
    monkeypatch.setattr(wandb, "init", lambda **options: requested.update(options) or run)
    (tmp_path / "wandb_run_id").write_text("abc")
    logger = WandB(tmp_path, CONFIG, resume_step=4)
    assert (requested["id"], requested["resume"]) == ("abc", "allow")
    write_steps(logger, range(5, 10))
    assert sorted(set(run.sent)) == [8, 9]


def test_new_run_ignores_the_id_of_an_earlier_run_and_replaces_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _ServerRun()
    requested: dict[str, Any] = {}
    monkeypatch.setattr(wandb, "init", lambda **options: requested.update(options) or run)
    (tmp_path / "wandb_run_id").write_text("old")
    logger = WandB(tmp_path, CONFIG)
    assert (requested["id"], requested["resume"], requested["name"]) == (None, None, tmp_path.name)
    write_steps(logger, [1])
    assert run.sent == [1]
    assert (tmp_path / "wandb_run_id").read_text() == "abc"


def test_failing_start_raises_config_error_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**options: Any) -> None:
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(ConfigError) as error:
        WandB(tmp_path, CONFIG)
    assert error.value.key == "loggers.wandb"
    assert error.value.got == "api_key not configured"
