"""`train --dry-run` as a user types it: what it promises is what the run then takes."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny import records

from xft.cli import main
from xft.training import activation_budget

GREEDY = "def loss(model, batch):\n    import torch\n    model(input_ids=batch.input_ids)\n    torch.empty(10**15)\n"
TIMES = ("eta_seconds", "tokens_per_second", "target_tokens_per_second", "peak_memory_bytes")


def figures(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in each.items() if key not in TIMES} for each in records(run)]


def size(folder: Path) -> int:
    return sum(
        each.stat().st_size for each in folder.rglob("*") if each.is_file() and not each.is_symlink()
    )


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, pattern
    return float(found[1].replace(",", ""))


def test_a_rehearsal_foretells_the_run_and_leaves_nothing(
    tiny_run: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", str(tiny_run), "--work-dir", str(tmp_path / "runs" / "a"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    for part in (
        "load the model",
        "forward",
        "backward",
        "optimizer step",
        "validation",
        "sample questions",
        "general questions",
        "checkpoint",
    ):
        assert re.search(rf"^{part}.* [\d.]+s +[\d.]+ [MG]B ", said, re.MULTILINE), part
    # What the same config took when it was run.
    steps = len(records(finished_run, "train"))
    assert number(r"([\d,]+) steps \d", said) == steps
    assert number(r"(\d+) validations", said) == len(records(finished_run, "val"))
    assert number(r"questions (\d+) times", said) == len(records(finished_run, "generation"))
    # The longest micro-batch of the run has at least half the tokens of its largest step of two.
    most = max(each["tokens"] for each in records(finished_run, "train"))
    assert most / 2 <= number(r"\nforward .*B +(\d+) tokens", said) <= 128
    sizes = re.search(r"checkpoints of ([\d.]+) kB, and final/ of ([\d.]+) kB", said)
    assert sizes is not None
    saved = finished_run / "checkpoints" / f"step_{steps}"
    assert float(sizes[1]) * 1e3 == pytest.approx(size(saved), rel=0.03)
    assert float(sizes[2]) * 1e3 == pytest.approx(size(finished_run / "final"), rel=0.03)


def test_the_run_after_a_rehearsal_is_the_run_without_one(
    tiny_run: Path, finished_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(tiny_run), "--work-dir", str(run), "--dry-run"]) == 0
    assert main(["train", str(tiny_run), "--work-dir", str(run)]) == 0
    assert figures(run) == figures(finished_run)


def test_a_full_memory_ends_the_rehearsal_with_what_to_change(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = sorted(each.name for each in tmp_path.iterdir())
    options = ["objective=greedy.loss", "training.micro_batch_size=4"]
    argv = [
        "train",
        str(tiny_run),
        "--work-dir",
        str(tmp_path / "run"),
        "--dry-run",
        "--cfg-options",
        *options,
    ]
    assert main(argv) == 6
    err = capsys.readouterr().err
    assert "out of memory in phase 'forward'" in err
    assert "training.micro_batch_size=2 training.gradient_accumulation_steps=4" in err
    assert "model.gradient_checkpointing=True" in err
    assert "Traceback" not in err
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == before


def test_a_rehearsal_of_a_resumed_run_is_refused(
    tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(tiny_run), "--dry-run", "--resume"]) == 2
    assert "--resume" in capsys.readouterr().err


def test_a_run_that_would_not_fit_makes_layers_again_says_so_and_learns_the_same(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said, found = {}, {}
    for name, free in (("roomy", 2**60), ("tight", 0)):
        monkeypatch.setattr(activation_budget, "available_bytes", lambda _, free=free: free)
        run = tmp_path / name
        assert main(["train", str(tiny_run), "--work-dir", str(run)]) == 0
        said[name] = " ".join(capsys.readouterr().out.split())
        found[name] = [(each["loss"], each["grad_norm"]) for each in records(run, "train")]
    again = "memory activation checkpointing: 2 of 2 layers (auto)"
    assert again in said["tight"]
    assert again not in said["roomy"]
    assert found["tight"] == found["roomy"]
    assert main(["train", str(tiny_run), "--work-dir", str(tmp_path / "never"), "--dry-run"]) == 0
    assert again in " ".join(capsys.readouterr().out.split())
