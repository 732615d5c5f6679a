import json
from pathlib import Path
from typing import Any

import pytest
from helpers.resumed_logger import CONFIG, EXPECTED_LOSSES, write_killed_and_resumed, write_steps

from xft.loggers import mlflow as module
from xft.loggers.mlflow import MLflow
from xft.utils import console


def test_resumed_run_replaces_the_run_after_its_checkpoint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from mlflow.entities import ViewType
    from mlflow.tracking import MlflowClient

    folder = tmp_path / "run"
    folder.mkdir()
    write_killed_and_resumed(MLflow, folder)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    [experiment] = [entry for entry in client.search_experiments() if entry.name == "xft"]
    [run] = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == EXPECTED_LOSSES
    assert run.data.params == {"seed": "0", "model.path": "somewhere"}
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    table = json.loads(Path(client.download_artifacts(run.info.run_id, "generations.json")).read_text())
    step, answer = (table["columns"].index(name) for name in ("step", "answer"))
    assert [(row[step], row[answer]) for row in table["data"]] == [(n, f"{n}.0") for n in (2, 4, 6, 8)]
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"config.py", "generations.json"}
    assert "Downloading" not in capfd.readouterr().err
    # The killed run is marked as deleted, and can be restored.
    [deleted] = client.search_runs([experiment.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert max(entry.step for entry in client.get_metric_history(deleted.info.run_id, "train/loss")) == 7


def test_run_that_stopped_at_its_checkpoint_is_continued(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    first = MLflow(tmp_path / "run", CONFIG)
    write_steps(first, range(1, 5))
    first.flush()
    second = MLflow(tmp_path / "run", CONFIG, resume_step=4)
    second.truncate_to_step(first.checkpoint_position())
    assert second._run == first._run


class Server:
    """Client of a server that can be unreachable."""

    def __init__(self) -> None:
        self.unreachable = False
        self.got: list[tuple[str, int]] = []

    def log_batch(self, run: str, metrics: list[Any]) -> None:
        if self.unreachable:
            raise ConnectionError("no route to host\nand a long story")
        assert len(metrics) <= module.MOST_METRICS
        self.got += [(metric.key, metric.step) for metric in metrics]

    def set_terminated(self, run: str) -> None:
        if self.unreachable:
            raise ConnectionError("no route to host")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[MLflow, Server, list[str]]:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    monkeypatch.setattr(module, "EVERY", -1.0)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # quicker than to make a data base
    (tmp_path / "run").mkdir()
    logger = MLflow(tmp_path / "run", {"seed": 0}, uri=(tmp_path / "store").as_uri())
    server: Any = Server()
    logger._client = server
    return logger, server, lines


def test_metrics_are_sent_when_an_unreachable_server_is_back(
    made: tuple[MLflow, Server, list[str]],
) -> None:
    logger, server, lines = made
    logger.record({"step": 1, "split": "train", "loss": 1.0})
    server.unreachable = True
    for step in (2, 3):
        logger.record({"step": step, "split": "train", "loss": 1.0})
    assert [line for line in lines if "no route to host" in line] == lines
    assert len(lines) == 1
    assert "long story" not in lines[0]
    server.unreachable = False
    logger.record({"step": 4, "split": "train", "loss": 1.0})
    logger.close()
    assert server.got == [("train/loss", step) for step in (1, 2, 3, 4)]
    assert len(lines) == 1


def test_close_reports_the_number_of_metrics_not_sent(made: tuple[MLflow, Server, list[str]]) -> None:
    logger, server, lines = made
    server.unreachable = True
    for step in range(3):
        logger.record({"step": step, "split": "train", "loss": 1.0, "lr": 0.1})
    logger.close()
    assert "6 metrics were not sent to MLflow" in lines[-1]
