import re
from itertools import count
from typing import Any

import pytest
from helpers.runner import FakeRunner

from xft.reporting import progress_display
from xft.training.hooks import ProgressHook
from xft.training.hooks import progress as module
from xft.utils import console


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Lines of the log, and whether each goes to the terminal too; a clock that ticks once per second."""
    lines: list[tuple[str, bool]] = []
    ticks = count()
    monkeypatch.setattr(console, "info", lambda line, terminal=True: lines.append((line, terminal)))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))
    return lines


def _train(hook: ProgressHook, runner: FakeRunner, losses: list[float], targets: list[int]) -> None:
    hook.before_run(runner)
    hook.before_train(runner)
    for index, (loss, target_tokens) in enumerate(zip(losses, targets, strict=True)):
        runner.train_loop.step += 1
        outputs: dict[str, Any] = {"loss": loss, "tokens": 50, "target_tokens": target_tokens}
        outputs |= {"lr": 1e-3, "grad_norm": 0.5, "seconds": 0.25}
        outputs |= {"tokens_per_second": 200.0, "target_tokens_per_second": 4.0}
        hook.after_train_iter(runner, index, [], outputs)


def test_every_step_is_recorded_with_epoch_and_eta(lines: list[tuple[str, bool]]) -> None:
    runner = FakeRunner(num_steps=4)
    _train(ProgressHook(interval=4), runner, [4.0, 3.0], [1, 1])
    records = runner.recorder.records
    assert [(record["step"], record["split"], record["loss"]) for record in records] == [
        (1, "train", 4.0),
        (2, "train", 3.0),
    ]
    # Each step takes one tick of the clock.
    assert [(record["epoch"], record["eta_seconds"]) for record in records] == [(0.25, 3.0), (0.5, 2.0)]
    assert all("seconds" not in record and record["peak_memory_bytes"] > 0 for record in records)


def test_line_shows_the_mean_loss_per_target_since_the_last_line(lines: list[tuple[str, bool]]) -> None:
    _train(ProgressHook(interval=2), FakeRunner(num_steps=4), [4.0, 1.0, 2.0, 2.0], [1, 3, 5, 5])
    assert [re.findall(r"step +(\d+)/4 .* loss ([\d.]+) .* ([\d,]+) tok/s", line) for line, _ in lines] == [
        [("2", "1.7500", "200")],
        [("4", "2.0000", "200")],
    ]


@pytest.mark.parametrize("live", [True, False])
def test_live_display_replaces_lines_on_the_terminal(
    live: bool, lines: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_display, "is_supported", lambda: True)
    runner = FakeRunner(num_steps=1)
    with runner.cleanup:
        _train(ProgressHook(live=live), runner, [4.0], [1])
        assert len(runner.loggers) == (2 if live else 1)
    assert [terminal for line, terminal in lines if line.startswith("step")] == [not live]
