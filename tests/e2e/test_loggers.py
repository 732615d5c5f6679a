"""The real packages of TensorBoard and Weights & Biases, offline."""

import json
from pathlib import Path

import pytest
from tiny import records

from xft.cli import main


def test_tensorboard_gets_the_curves_the_config_and_the_samples(tiny_run: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    options = ["loggers.tensorboard.type=tensorboard", "training.steps=3"]
    assert main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", *options]) == 0
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    seen = [(each.step, each.value) for each in events.Scalars("train/loss")]
    expected = [(each["step"], each["loss"]) for each in records(run, "train")]
    assert [step for step, _ in seen] == [1, 2, 3]
    assert [value for _, value in seen] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert {"val/loss", "val/perplexity", "questions/score", "train/lr"} <= set(events.Tags()["scalars"])
    text = events.Tensors("samples/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| Say number 3 |" in text
    assert "max_length" in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_wandb_gets_the_curves_the_config_and_the_samples_as_a_table(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    options = ["loggers.wandb.type=wandb", "loggers.wandb.project=tests", "training.steps=3"]
    assert main(["train", str(tiny_run), "--work-dir", str(run), "--cfg-options", *options]) == 0
    folders = list((run / "wandb").glob("offline-run-*"))
    assert len(folders) == 1
    tables = list(folders[0].rglob("samples*.table.json"))
    assert len(tables) == 3  # before, in the middle and at the end
    table = json.loads(tables[0].read_text())
    assert table["columns"] == ["step", "question", "answer", "reference", "score", "stopped"]
    assert {row[1] for row in table["data"]} == {"Say number 3", "Who are you?"}
    stored = next(folders[0].glob("*.wandb")).read_bytes()
    for name in (b"train/loss", b"val/perplexity", b"max_length"):
        assert name in stored


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_logger_that_is_not_installed_is_said_with_the_command(
    name: str,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sys

    monkeypatch.setitem(
        sys.modules, {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}[name], None
    )
    options = [f"loggers.{name}.type={name}", "training.steps=1"]
    assert (
        main(["train", str(tiny_run), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]) == 2
    )
    assert f"pip install {name}" in capsys.readouterr().err
