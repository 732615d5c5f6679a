"""Two ranks on the CPU, with gloo, give the run of one process."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.forked import run_on_ranks
from helpers.tiny import ROOT, records, write_config, write_rows

from xft.cli import main


def test_two_ranks_give_the_losses_of_one_process(tiny_model: Path, tmp_path: Path) -> None:
    """13 rows in windows of 4: in the last window of an epoch the ranks have unequally much to do."""
    rows = write_rows(tmp_path / "rows.jsonl", 15)
    extra = "data.update(packing=False, val_split=2)\ntraining.update(gradient_accumulation_steps=4)\n"
    config = write_config(tmp_path / "c.py", tiny_model, rows, extra)
    assert main(["train", str(config), "--work-dir", str(tmp_path / "one")]) == 0
    config.write_text(config.read_text() + "training.update(gradient_accumulation_steps=2)\n")
    train = [str(config), "--work-dir", str(tmp_path / "two"), "--launcher", "pytorch"]
    done = run_on_ranks(2, ROOT / "tools" / "train.py", *train)
    assert done.returncode == 0, done.stderr[-3000:]
    for split in ("train", "val"):
        one, two = records(tmp_path / "one", split), records(tmp_path / "two", split)
        assert [each["step"] for each in one] == [each["step"] for each in two]
        assert [each["target_tokens"] for each in one] == [each["target_tokens"] for each in two]
        # fp32; the sums are taken in another order
        assert [each["loss"] for each in two] == pytest.approx([each["loss"] for each in one], rel=1e-5)
    norms = [[each["grad_norm"] for each in records(tmp_path / name, "train")] for name in ("one", "two")]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    assert done.stdout.count("score before") == 1  # only the first rank speaks


def test_train_config_error_on_all_ranks_prints_once(tiny_run: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "train.py"), str(tiny_run), "--nproc-per-node", "2"]
    command += ["--work-dir", str(tmp_path / "r"), "--cfg-options", "optimizer.lrr=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2
    assert done.stderr.count("error:") == done.stderr.count("did you mean 'lr'?") == 1


def test_a_launcher_that_did_not_launch_is_said(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(tiny_run), "--work-dir", str(tmp_path / "run"), "--launcher", "slurm"]
    assert main(arguments) == 2
    assert "start with `srun" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_without_deepspeed_a_line_says_how_to_get_it(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xft.strategies.deepspeed.engine.find_spec", lambda name: None)
    assert main(["train", str(tiny_run), "--work-dir", str(tmp_path / "r"), "--deepspeed", "zero2"]) == 2
    error = capsys.readouterr().err
    assert "pip install xft-tuner[deepspeed]" in error
    assert "pip install -r requirements/deepspeed.txt" in error
    assert not (tmp_path / "r").exists()


def test_two_things_that_start_processes_are_refused(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(tiny_run), "--launcher", "slurm", "--nproc-per-node", "2"]) == 2
    assert "--launcher slurm, which starts the processes" in capsys.readouterr().err
