"""Training loop: row origins in messages, and skipped steps."""

import warnings
from typing import Any

import pytest
import torch
from helpers.runner import FakeRunner

from xft.training.loop import abbreviate


def test_abbreviate_counts_rows_beyond_the_maximum() -> None:
    rows = [f"a.jsonl:{number}" for number in range(10)]
    assert abbreviate(rows[:3]) == "a.jsonl:0, a.jsonl:1, a.jsonl:2"
    assert abbreviate(rows).endswith("a.jsonl:7 and 2 more")


def test_skipped_first_step_advances_the_scheduler_without_a_warning_of_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = FakeRunner()
    loop = runner.train_loop
    loop._runner = runner

    def skip(name: str, **_: Any) -> None:
        loop.skip_nonfinite = name == "after_nonfinite"

    monkeypatch.setattr(runner, "call_hook", skip)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loop._optimizer_step(float("nan"), []) is None
    assert loop.strategy.lr_scheduler.last_epoch == 1


def test_first_step_of_a_warm_up_is_no_update() -> None:
    loop = FakeRunner().train_loop
    strategy, loop.max_grad_norm, loop.has_updated = loop.strategy, 1.0, False
    strategy.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(strategy.optimizer, float)
    updated = []
    for _ in range(3):
        loop._optimizer_step(1.0, [])
        updated.append(loop.has_updated)
    assert updated == [False, True, True]
