"""Stop when the validation metric no longer improves."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from xft.checkpoint.resume_state import RunState
from xft.compat.mmengine import Hook as MMEngineHook
from xft.errors import ConfigError
from xft.registry import register
from xft.training.hooks.base import Hook
from xft.training.runner import Runner
from xft.types.ranges import Count, NonNegative
from xft.utils import console


@register("hooks", "early_stopping")
class EarlyStoppingHook(Hook):
    """End the run after ``patience`` validations without improvement.

    Args:
        patience: number of consecutive validations without improvement that end the run.
        min_delta: minimum decrease of the metric that counts as an improvement.
        monitor: validation metric; lower is better, except for a reward.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        patience: Count = 3,
        min_delta: NonNegative = 0.0,
        monitor: Literal["loss", "perplexity", "reward"] = "loss",
    ) -> None:
        if patience < 1:
            raise ConfigError(key="hooks.early_stopping.patience", got=patience, expected="at least 1")
        self.patience = patience
        self.min_delta = min_delta
        self.monitor = monitor

    def before_run(self, runner: Runner) -> None:
        """Restore the state of a resumed run."""
        state = runner.state.setdefault("early_stopping", {"lowest": None, "waited": 0})
        self._state: dict[str, Any] = state

    def after_validation(self, runner: Runner, metrics: Mapping[str, float]) -> None:
        """Count validations without improvement, and stop the run after ``patience`` of them.

        Raises:
            ConfigError: the validation has no metric of this name.
        """
        if self.monitor not in metrics:
            raise ConfigError(
                key="hooks.early_stopping.monitor", got=self.monitor, expected=f"one of {', '.join(sorted(metrics))}"
            )  # fmt: skip
        # A reward improves by rising: its negative falls.
        sign = -1 if self.monitor == "reward" else 1
        value = sign * metrics[self.monitor]
        lowest = self._state["lowest"]
        if math.isfinite(value) and (lowest is None or value < lowest - self.min_delta):
            self._state |= {"lowest": value, "waited": 0}
            return
        self._state["waited"] += 1
        if self.is_over(self._state):
            verb = "fallen below" if sign == 1 else "risen above"
            below = "is not finite" if lowest is None else f"has not {verb} {sign * lowest:.4f}"
            reason = f"validation {self.monitor} {below} in {self.patience} validations"
            runner.train_loop.stop_reason = self._state["reason"] = reason
            console.info(f"  stopping early: {reason}")

    def is_over(self, state: Mapping[str, Any]) -> bool:
        """Return whether ``patience`` is exhausted.

        Args:
            state: state of this hook, as a checkpoint holds it.
        """
        return bool(state["waited"] >= self.patience)


def stop_reason(state: RunState, hooks: Iterable[MMEngineHook]) -> str | None:
    """Return why a run ended before its last step; ``None`` if it did not, or need not have.

    Args:
        state: state of its checkpoint.
        hooks: hooks of the resumed run. If early stopping has more patience now, the run continues.
    """
    stopped = state.hooks.get("early_stopping", {})
    if state.stop_reason is None or stopped.get("reason") != state.stop_reason:
        return state.stop_reason
    is_over = any(isinstance(hook, EarlyStoppingHook) and hook.is_over(stopped) for hook in hooks)
    return state.stop_reason if is_over else None
