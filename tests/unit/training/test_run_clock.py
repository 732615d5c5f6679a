"""The duration of a run sums its parts, and leaves out pauses and lost work."""

import json
from datetime import datetime

import pytest

from xft.training import run_clock
from xft.training.run_clock import RunClock


def test_a_resumed_run_keeps_its_start_and_sums_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 130.0, 5000.0, 5007.0])  # the pause between the parts is not counted
    monkeypatch.setattr(run_clock.time, "perf_counter", lambda: next(times))
    state = json.loads(json.dumps(RunClock("2026-01-02T03:04:05+00:00").state()))
    resumed = RunClock.resumed(state)
    assert resumed.started_at == "2026-01-02T03:04:05+00:00"
    assert resumed.seconds == pytest.approx(37)


def test_a_checkpoint_without_a_clock_starts_a_new_one() -> None:
    clock = RunClock.resumed(None)
    assert 0 <= clock.seconds < 600
    assert datetime.fromisoformat(clock.started_at).tzinfo is not None
