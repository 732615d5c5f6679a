import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.plans import plan_of
from helpers.preferences import pair_samples
from helpers.strategies import FakeStrategy
from helpers.token_stores import write_store

from xft.config import load_config
from xft.data import DataReport, PreparedData, SampleView
from xft.reporting import REPORT
from xft.reporting.run_folder import ENVIRONMENT
from xft.training.run_clock import RunClock
from xft.training.run_metadata import write_end, write_environment, write_records, write_run_report
from xft.utils import console
from xft.version import __version__

RESOLVED = {"model.dtype": "float32"}
CONFIG = {"model": {"type": "causal_lm", "path": "x"}, "seed": 3, "work_dir": "/home/me/runs/a"}


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedData:
    store = write_store(tmp_path / "store", [[sample] for sample in pair_samples()])
    samples = SampleView([(store, np.arange(8))])
    report = DataReport(rows_read=9, rows_train=8, rows_dropped=Counter({"overlong": 1}))
    return PreparedData(samples, samples, report)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def test_write_records_writes_a_config_that_loads_and_is_portable(
    run_dir: Path, prepared: PreparedData
) -> None:
    write_records(run_dir, CONFIG, prepared, plan_of([5] * 8, 8), RESOLVED)
    config = load_config(run_dir / "config.py")
    assert config == {"model": CONFIG["model"], "seed": 3}
    assert "# model.dtype = 'float32'\n" in (run_dir / "config.py").read_text()


def test_write_records_adds_packing_to_the_data_report(run_dir: Path, prepared: PreparedData) -> None:
    write_records(run_dir, CONFIG, prepared, plan_of([5] * 8, 4, pack_length=10), RESOLVED)
    report = json.loads((run_dir / "data_report.json").read_text())
    assert (report["rows_read"], report["rows_dropped"]) == (9, {"overlong": 1})
    assert report["packing"] == {"capacity": 10, "rows": 4, "fill": 1.0}


def test_write_records_joins_quarantine_files(
    run_dir: Path, prepared: PreparedData, tmp_path: Path
) -> None:
    for name in "ab":
        file = tmp_path / f"{name}.jsonl"
        file.write_text(f'{{"row": "{name}"}}\n')
        prepared.report.quarantine_files.append(file)
    write_records(run_dir, CONFIG, prepared, plan_of([5] * 8, 8), RESOLVED)
    rows = (run_dir / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in rows] == [{"row": "a"}, {"row": "b"}]


def test_write_records_removes_final_model_and_report_of_an_earlier_end(
    run_dir: Path, prepared: PreparedData
) -> None:
    (run_dir / "final").mkdir()
    (run_dir / REPORT).touch()
    (run_dir / "metrics.jsonl").touch()
    write_records(run_dir, CONFIG, prepared, plan_of([5] * 8, 8), RESOLVED)
    names = {path.name for path in run_dir.iterdir()}
    assert names == {"config.py", "data_report.json", "metrics.jsonl"}


def test_write_environment_states_plan_machine_and_versions(run_dir: Path, prepared: PreparedData) -> None:
    plan = plan_of([5] * 8, 6, micro_batch_size=2, gradient_accumulation_steps=2, seed=7)
    write_environment(run_dir, plan, FakeStrategy(world_size=3), prepared, RunClock())
    values = json.loads((run_dir / ENVIRONMENT).read_text())
    assert values["plan"] == {
        "steps": 6,
        "steps_per_epoch": 2,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "ranks": 3,
        "pack_length": None,
        "seed": 7,
    }
    assert values["machine"]["device"] == "cpu"
    assert values["versions"]["xft"] == __version__
    assert values["versions"]["torch"]


def test_environment_has_command_hash_of_the_data_begin_and_end(
    run_dir: Path, prepared: PreparedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/xft", "train", "my config.py"])
    plan = plan_of([5] * 8, 6)
    clock = RunClock("2026-01-02T03:04:05+00:00", 75.0)  # resumed after 75 seconds of training
    write_environment(run_dir, plan, FakeStrategy(), prepared, clock)
    run = json.loads((run_dir / ENVIRONMENT).read_text())["run"]
    assert run["command"] == "xft train 'my config.py'"
    assert run["started_at"] == "2026-01-02T03:04:05+00:00"
    write_end(run_dir, 6, clock)
    end = json.loads((run_dir / ENVIRONMENT).read_text())["run"]
    assert end == run | {"ended_at": end["ended_at"], "seconds": end["seconds"], "final_step": 6}
    assert 75 <= end["seconds"] < 600
    fewer = PreparedData(prepared.train, SampleView([]), prepared.report)
    write_environment(run_dir, plan, FakeStrategy(), fewer, clock)
    other = json.loads((run_dir / ENVIRONMENT).read_text())["run"]
    assert other["data_hash"] != run["data_hash"]


def test_report_that_cannot_be_written_is_a_warning(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    assert write_run_report(run_dir) is None
    assert [line.startswith("warning") for line in lines] == [True]
