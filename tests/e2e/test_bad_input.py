"""What is wrong ends at once: a non-zero code, one clear message, no traceback, nothing half-written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.tiny import ROOT, write_config, write_rows

from xft.cli import main
from xft.errors import ConfigError

GOOD = {"instruction": "a", "output": "b"}
CASES: dict[str, tuple[str, str, int, list[str]]] = {
    "broken JSON line": (
        "rows.jsonl",
        json.dumps(GOOD) + '\n{"instruction": \n',
        3,
        ["rows.jsonl:2", "broken JSON"],
    ),
    "wrong columns": (
        "rows.jsonl",
        json.dumps({"question": "a", "answer": "b"}) + "\n",
        3,
        ["rows.jsonl:1", "instruction", "is missing", "'question', 'answer'", "expected text"],
    ),
    "empty data set": ("rows.jsonl", "", 3, ["no rows", "expected at least 2"]),
    "no answer": (
        "rows.jsonl",
        json.dumps(GOOD) + "\n" + json.dumps({"instruction": "a", "output": " "}),
        3,
        ["rows.jsonl:2", "answer is empty"],
    ),
    "null answer": (
        "rows.jsonl",
        json.dumps({"instruction": "a", "output": None}),
        3,
        ["output", "is null"],
    ),
    "number for text": (
        "rows.jsonl",
        json.dumps({"instruction": "a", "output": 3}),
        3,
        ["got 3 (int)", "expected text"],
    ),
    "one row": ("rows.jsonl", json.dumps(GOOD), 3, ["data.val_split=None"]),
    "not an object": ("rows.jsonl", "[1, 2]\n", 3, ["rows.jsonl:1", "expected an object"]),
    "not UTF-8": ("rows.csv", "instruction,output\n\udcff,b\n", 3, ["is not UTF-8"]),
}


def _fails(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int, said: list[str]) -> None:
    capsys.readouterr()
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err + captured.out
    for each in said:
        assert each in captured.err


@pytest.mark.parametrize("name", CASES)
def test_bad_rows(name: str, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, text, code, said = CASES[name]
    rows = tmp_path / file
    rows.write_bytes(text.encode("utf-8", "surrogateescape"))
    config = write_config(tmp_path / "c.py", tiny_model, rows)
    _fails(["train", str(config), "--work-dir", str(tmp_path / "run")], capsys, code, said)
    assert not (tmp_path / "run").exists()


def test_a_missing_data_file(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path / "c.py", tiny_model, tmp_path / "none.jsonl")
    _fails(
        ["train", str(config), "--work-dir", str(tmp_path / "run")],
        capsys,
        2,
        ["none.jsonl", "does not exist"],
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", ["./no/such/model", "/no/such/model", "smollm", "xft://smollm"])
def test_a_model_that_does_not_exist(path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 4)
    config = write_config(tmp_path / "c.py", path, rows)
    _fails(["train", str(config), "--work-dir", str(tmp_path / "run")], capsys, 4, ["model.path", path])
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 4)
    (tmp_path / "empty").mkdir()
    config = write_config(tmp_path / "c.py", tmp_path / "empty", rows)
    _fails(
        ["train", str(config), "--work-dir", str(tmp_path / "run")],
        capsys,
        4,
        ["is not a run folder", "empty"],
    )


def test_a_work_folder_that_cannot_be_written(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    _fails(["train", str(tiny_run), "--work-dir", str(tmp_path / "file" / "run")], capsys, 2, ["is a file"])


def test_a_work_folder_that_holds_a_run(
    finished_run: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(each.name for each in finished_run.iterdir())
    _fails(
        ["train", str(tiny_run), "--work-dir", str(finished_run)],
        capsys,
        2,
        ["holds a run already", "--resume"],
    )
    assert sorted(each.name for each in finished_run.iterdir()) == before


def test_three_typos_are_said_at_once(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_run.write_text(
        tiny_run.read_text()
        + "data.update(max_lenght=5)\ntraning = dict(epochs=1)\nadapter.update(rank=4)\n"
    )
    said = ["3 mistakes", "did you mean 'max_length'", "did you mean 'training'?", "adapter.rank"]
    _fails(["train", str(tiny_run), "--work-dir", str(tmp_path / "run")], capsys, 2, said)
    assert not (tmp_path / "run").exists()


def test_too_short_a_length_says_the_true_cause(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "train",
        str(tiny_run),
        "--work-dir",
        str(tmp_path / "run"),
        "--cfg-options",
        "data.max_length=40",
    ]
    _fails(
        arguments,
        capsys,
        3,
        ["data.max_length=40 truncates or drops 24 of 24 rows", "p95", "Raise data.max_length"],
    )


def test_a_quarantine_counts_and_keeps_what_does_not_fit(tiny_run: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text() + '{"instruction": "no answer"}\n')
    arguments = ["train", str(tiny_run), "--work-dir", str(tmp_path / "run")]
    assert main([*arguments, "--cfg-options", "data.on_invalid=quarantine", "training.max_steps=1"]) == 0
    report = json.loads((tmp_path / "run" / "data_report.json").read_text())
    assert report["rows_read"] == 25
    assert report["rows_dropped"] == {"does not fit the format": 1}
    kept = json.loads((tmp_path / "run" / "quarantine.jsonl").read_text())
    assert kept["line"] == 25
    assert kept["row"] == {"instruction": "no answer"}


def test_a_loss_that_is_no_number_ends_the_run_with_the_step(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "optimizer.lr=1000000000",
        "adapter=none",
        "training.max_grad_norm=none",
        "training.epochs=20",
    ]
    arguments = ["train", str(tiny_run), "--work-dir", str(tmp_path / "run"), "--cfg-options", *options]
    _fails(arguments, capsys, 6, ["the loss is nan", "step"])


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "train.py"), str(tmp_path / "none.py")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    plain = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert plain.returncode == 2
    assert plain.stderr.count("\n") == 1
    with pytest.raises(ConfigError, match=r"none\.py") as caught:
        main(["train", str(tmp_path / "none.py"), "--debug"])
    assert caught.traceback[-1].path.is_relative_to(ROOT / "xft")
