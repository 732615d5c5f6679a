"""Early stopping: when a run stops, and whether a resumed run is over."""

from dataclasses import replace
from typing import Any

import pytest
from helpers.runner import FakeRunner

from xft.checkpoint.resume_state import RunState
from xft.errors import ConfigError
from xft.training.hooks.early_stopping import EarlyStoppingHook, stop_reason

STATE = RunState(
    step=4,
    tokens_seen=0,
    stop_reason="validation loss has not fallen",
    data_fingerprint="",
    batching={},
    config={},
    hooks={
        "early_stopping": {"lowest": 1.0, "waited": 2, "reason": "validation loss has not fallen"},
    },
    loggers={},
)


def _validate(
    hook: EarlyStoppingHook, losses: list[float], runner: FakeRunner | None = None
) -> tuple[FakeRunner, int]:
    """Return the runner, and the number of validations until the run stops."""
    runner = runner or FakeRunner()
    hook.before_run(runner)
    for number, loss in enumerate(losses, 1):
        hook.after_validation(runner, {"loss": loss, "perplexity": -loss})
        if runner.train_loop.stop_reason is not None:
            return runner, number
    return runner, len(losses)


def test_run_stops_after_patience_validations_without_improvement() -> None:
    runner, count = _validate(EarlyStoppingHook(patience=2), [3.0, 2.0, 2.5, 1.9, 1.95, 2.0, 1.0])
    assert count == 6
    assert "1.9000" in str(runner.train_loop.stop_reason)
    assert runner.state["early_stopping"]["reason"] == runner.train_loop.stop_reason


def test_equal_value_is_no_improvement() -> None:
    assert _validate(EarlyStoppingHook(patience=2), [1.0, 1.0, 1.0, 0.0])[1] == 3


def test_decrease_by_less_than_min_delta_is_no_improvement() -> None:
    losses = [3.0, 2.9, 2.8, 2.7]
    assert _validate(EarlyStoppingHook(patience=2, min_delta=0.5), losses)[1] == 3
    assert (
        _validate(EarlyStoppingHook(patience=2, min_delta=0.05), losses)[0].train_loop.stop_reason is None
    )


def test_monitor_selects_the_metric() -> None:
    """The perplexity of ``_validate`` rises while the loss falls."""
    assert _validate(EarlyStoppingHook(patience=1, monitor="perplexity"), [3.0, 2.0, 1.0])[1] == 2


def test_resumed_run_continues_the_count() -> None:
    state: dict[str, Any] = _validate(EarlyStoppingHook(patience=3), [1.0, 2.0])[0].state
    runner = FakeRunner()
    runner.state = state
    assert _validate(EarlyStoppingHook(patience=3), [2.0, 2.0, 0.0], runner)[1] == 2


def test_patience_below_one_raises_config_error() -> None:
    with pytest.raises(ConfigError) as error:
        EarlyStoppingHook(patience=0)
    assert (error.value.key, error.value.got) == ("hooks.early_stopping.patience", 0)


@pytest.mark.parametrize(("patience", "stops"), [(2, True), (3, False)])
def test_stop_reason_early_stopping_depends_on_the_new_patience(patience: int, stops: bool) -> None:
    assert stop_reason(STATE, [EarlyStoppingHook(patience=patience)]) == (
        STATE.stop_reason if stops else None
    )


def test_stop_reason_early_stopping_without_the_hook_is_none() -> None:
    assert stop_reason(STATE, []) is None


def test_stop_reason_of_another_hook_is_kept() -> None:
    assert stop_reason(replace(STATE, stop_reason="enough"), []) == "enough"
    assert stop_reason(replace(STATE, stop_reason=None), []) is None
