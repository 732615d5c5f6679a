"""The real packages of TensorBoard, Weights & Biases and MLflow, offline."""

import json
import re
import time
from pathlib import Path

import pytest
from helpers.tiny import records

from xft.cli import main


def test_tensorboard_gets_the_curves_the_config_and_the_samples(tiny_run: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    options = ["loggers.tensorboard.type=tensorboard", "training.max_steps=3"]
    assert main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", *options]) == 0
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    seen = [(each.step, each.value) for each in events.Scalars("train/loss")]
    expected = [(each["step"], each["loss"]) for each in records(run, "train")]
    assert [step for step, _ in seen] == [1, 2, 3]
    assert [value for _, value in seen] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert {"val/loss", "val/perplexity", "generation/score", "train/lr"} <= set(events.Tags()["scalars"])
    text = events.Tensors("generations/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| Say number 3 |" in text
    for name, wanted in (("config", "max_length"), ("data_report", "rows_read")):
        assert wanted in events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()


def test_wandb_gets_the_curves_the_config_and_the_samples_as_a_table(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    options = ["loggers.wandb.type=wandb", "loggers.wandb.project=tests", "training.max_steps=3"]
    options.append("loggers.wandb.mode=offline")
    assert main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", *options]) == 0
    folders = list((run / "wandb").glob("offline-run-*"))
    assert len(folders) == 1
    tables = list(folders[0].rglob("generations*.table.json"))
    assert len(tables) == 2  # before and at the end
    table = json.loads(tables[0].read_text())
    assert table["columns"] == ["step", "question", "answer", "reference", "score", "stopped"]
    assert {row[1] for row in table["data"]} == {"Say number 3", "Who are you?"}
    file = next(folders[0].glob("*.wandb"))
    until = time.monotonic() + 60
    # A process of its own writes it, and may end after the run.
    while b"val/perplexity" not in (stored := file.read_bytes()) and time.monotonic() < until:
        time.sleep(0.05)
    for name in (b"train/loss", b"val/perplexity", b"max_length", b"rows_read"):
        assert name in stored


def test_mlflow_gets_the_curves_the_config_the_data_report_and_the_samples(
    tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, other = tmp_path / "run", tmp_path / "other.db"
    options = [
        "loggers.mlflow.type=mlflow",
        "training.max_steps=2",
        f"loggers.mlflow.uri=sqlite:///{other}",
    ]
    argv = ["train", str(tiny_run), "--work-dir", str(run), "--cfg-options"]
    assert main([*argv, *options]) == 0
    captured = capfd.readouterr()
    assert not re.search("INFO|WARNING|alembic|database", captured.out + captured.err)
    assert main([*argv, *options, "training.max_steps=3", "--resume"]) == 0
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{other}")
    [experiment] = [each for each in client.search_experiments() if each.name == "xft"]
    [found] = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    seen = {each.step: each.value for each in client.get_metric_history(found.info.run_id, "train/loss")}
    expected = {each["step"]: each["loss"] for each in records(run, "train")}
    assert seen == pytest.approx(expected)
    assert list(seen) == [1, 2, 3]
    assert {"val/loss", "val/perplexity", "generation/score", "train/lr"} <= set(found.data.metrics)
    assert found.data.params["data.max_length"] == "128"
    folder = tmp_path / "artifacts"
    folder.mkdir()
    client.download_artifacts(found.info.run_id, "", str(folder))
    assert json.loads((folder / "data_report.json").read_text())["rows_read"] == 24
    assert "max_length" in (folder / "config.py").read_text()
    table = json.loads((folder / "generations.json").read_text())
    lines = (run / "generations.jsonl").read_text().splitlines()
    columns = {name: at for at, name in enumerate(table["columns"])}
    asked = {
        (each[columns["step"]], each[columns["question"]], each[columns["answer"]])
        for each in table["data"]
    }
    assert {(each["step"], each["question"], each["answer"]) for each in map(json.loads, lines)} <= asked


def test_a_server_that_is_not_there_is_said_before_the_run(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    options = [
        "loggers.mlflow.type=mlflow",
        "loggers.mlflow.uri=http://127.0.0.1:9",
        "training.max_steps=1",
    ]
    argv = ["train", str(tiny_run), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]
    assert main(argv) == 2
    assert "loggers.mlflow: cannot start at http://127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_logger_that_is_not_installed_is_said_with_the_command(
    name: str,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sys

    monkeypatch.setitem(
        sys.modules,
        {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "mlflow": "mlflow.entities"}[name],
        None,
    )
    options = [f"loggers.{name}.type={name}", "training.max_steps=1"]
    assert (
        main(["train", str(tiny_run), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]) == 2
    )
    assert f"pip install {name}" in capsys.readouterr().err
