from typing import Any

import pytest
from helpers.runner import FakeRunner

from xft.errors import ConfigError
from xft.training.hooks import EarlyStoppingHook


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
