"""A run that was killed behind its newest checkpoint, and resumed: each back end has every step once."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from helpers.log_file import log_records

from xft.loggers import Logger, MLflow, TensorBoard, WandB

CONFIG = {"seed": 0, "model": {"path": "somewhere"}}


def write(logger: Logger, steps: Iterable[int], offset: float = 0.0) -> None:
    """A figure for each step, and an answer at every other."""
    for step in steps:
        logger.record({"step": step, "split": "train", "loss": step + offset})
        if step % 2 == 0:
            row = {"question": "Why?", "answer": f"{step + offset}", "reference": None}
            logger.generations(step, [{**row, "score": 0.0, "stopped": True}])


def killed_and_resumed(make: Any, folder: Path, **options: Any) -> Logger:
    """Steps 1 to 4, a checkpoint, steps 5 to 7, the end without a word; then steps 5 to 8 anew."""
    first = make(folder, CONFIG, **options)
    write(first, range(1, 5))
    first.flush()
    position = first.checkpoint_position()
    write(first, range(5, 8), offset=0.5)
    first.flush()
    second: Logger = make(folder, CONFIG, resume_step=4, **options)
    if position is not None:
        second.truncate_to_step(json.loads(json.dumps(position)))
    write(second, range(5, 9))
    second.close()
    return second


WANTED = [(step, float(step)) for step in range(1, 9)]


def test_tensorboard_passes_over_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed_and_resumed(TensorBoard, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(each.step, each.value) for each in events.Scalars("train/loss")] == WANTED
    texts = events.Tensors("generations/text_summary")
    assert [each.step for each in texts] == [2, 4, 6, 8]
    assert b"| 6.0 |" in texts[2].tensor_proto.string_val[0]


def test_mlflow_is_written_anew_up_to_the_checkpoint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow.entities import ViewType
    from mlflow.tracking import MlflowClient

    run, place = tmp_path / "run", f"sqlite:///{tmp_path / 'mlflow.db'}"
    run.mkdir()
    killed_and_resumed(MLflow, run)
    client = MlflowClient(tracking_uri=place)
    [experiment] = [each for each in client.search_experiments() if each.name == "xft"]
    [found] = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(each.step, each.value) for each in history] == WANTED
    assert found.data.params == {"seed": "0", "model.path": "somewhere"}
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    table = json.loads(Path(client.download_artifacts(found.info.run_id, "generations.json")).read_text())
    at = {name: number for number, name in enumerate(table["columns"])}
    assert [(row[at["step"]], row[at["answer"]]) for row in table["data"]] == [
        (step, f"{step}.0") for step in (2, 4, 6, 8)
    ]
    assert {each.path for each in client.list_artifacts(found.info.run_id)} == {
        "config.py",
        "generations.json",
    }
    assert "Downloading" not in capfd.readouterr().err
    # What was set aside is there for who wants it, and not in the way.
    [gone] = client.search_runs([experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert max(each.step for each in client.get_metric_history(gone.info.run_id, "train/loss")) == 7


def test_mlflow_keeps_a_run_that_stopped_at_its_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    first = MLflow(tmp_path / "run", CONFIG)
    write(first, range(1, 5))
    first.flush()
    second = MLflow(tmp_path / "run", CONFIG, resume_step=4)
    second.truncate_to_step(first.checkpoint_position())
    assert second._run == first._run


def history(file: Path) -> list[dict[str, Any]]:
    """The rows that W&B keeps in a file, which a process of its own writes: it may end after the run."""
    from wandb.proto.wandb_internal_pb2 import Record

    until, parsed = time.monotonic() + 60, []
    while not any(each.HasField("exit") for each in parsed):
        assert time.monotonic() < until, "W&B has not ended its file"
        time.sleep(0.05)
        parsed = [Record.FromString(each) for each in log_records(file)]
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in each.history.item}
        for each in parsed
        if each.HasField("history")
    ]


def test_wandb_counts_the_steps_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandB(tmp_path, CONFIG, mode="offline")
    write(logger, [1, 2, 4])
    logger.close()
    [file] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows = history(file)
    assert [(each["_step"], each["step"], each["train/loss"]) for each in rows] == [
        (step, step, float(step)) for step in (1, 2, 4)
    ]
    assert [each["_step"] for each in rows if "generations/nrows" in each] == [2, 4]


def test_wandb_leaves_out_the_steps_that_the_server_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in for the server, which a test cannot reach: it says at which step a run goes on."""
    import wandb

    class Run:
        id, step = "abc", 8

        def log(self, values: dict[str, Any], step: int) -> None:
            sent.append(step)

    sent: list[int] = []
    asked: dict[str, Any] = {}
    monkeypatch.setattr(wandb, "init", lambda **options: asked.update(options) or Run())
    (tmp_path / "wandb_run_id").write_text("abc")
    logger = WandB(tmp_path, CONFIG, resume_step=4)
    assert (asked["id"], asked["resume"]) == ("abc", "allow")
    write(logger, range(5, 10))
    assert sorted(set(sent)) == [8, 9]
