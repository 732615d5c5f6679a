"""A tracking server that stops answering: figures wait, the run goes on, and nothing is lost."""

from pathlib import Path
from typing import Any

import pytest

from xft.loggers import mlflow as module
from xft.loggers.mlflow import MLflow
from xft.utils import console


class Server:
    """The client of a server that can be away."""

    def __init__(self) -> None:
        self.away = False
        self.got: list[tuple[str, int]] = []

    def log_batch(self, run: str, metrics: list[Any]) -> None:
        if self.away:
            raise ConnectionError("no route to host\nand a long story")
        assert len(metrics) <= module.MOST_METRICS
        self.got += [(each.key, each.step) for each in metrics]

    def set_terminated(self, run: str) -> None:
        if self.away:
            raise ConnectionError("no route to host")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[MLflow, Server, list[str]]:
    said: list[str] = []
    monkeypatch.setattr(console, "info", said.append)
    monkeypatch.setattr(module, "EVERY", -1.0)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # quicker than to make a data base
    (tmp_path / "run").mkdir()
    logger = MLflow(tmp_path / "run", {"seed": 0}, uri=(tmp_path / "store").as_uri())
    server: Any = Server()
    logger._client = server
    return logger, server, said


def test_figures_wait_for_the_server(made: tuple[MLflow, Server, list[str]]) -> None:
    logger, server, said = made
    logger.record({"step": 1, "split": "train", "loss": 1.0})
    server.away = True
    for step in (2, 3):
        logger.record({"step": step, "split": "train", "loss": 1.0})
    assert [each for each in said if "no route to host" in each] == said
    assert len(said) == 1
    assert "long story" not in said[0]
    server.away = False
    logger.record({"step": 4, "split": "train", "loss": 1.0})
    logger.close()
    assert server.got == [("train/loss", step) for step in (1, 2, 3, 4)]
    assert len(said) == 1


def test_what_never_arrives_is_counted(made: tuple[MLflow, Server, list[str]]) -> None:
    logger, server, said = made
    server.away = True
    for step in range(3):
        logger.record({"step": step, "split": "train", "loss": 1.0, "lr": 0.1})
    logger.close()
    assert "6 metrics were not sent to MLflow" in said[-1]
