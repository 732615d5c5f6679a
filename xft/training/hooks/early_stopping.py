"""Stop when the validation does not get better any more."""

from collections.abc import Mapping
from typing import Any, Literal

from xft.compat.mmengine import Hook
from xft.errors import ConfigError
from xft.registry import register
from xft.utils import console


@register("hooks", "early_stopping")
class EarlyStoppingHook(Hook):
    """Ends the run after ``patience`` validations without progress.

    Args:
        patience: validations in a row that may pass without progress.
        min_delta: by how much a figure must fall to count as progress.
        monitor: the figure of the validation; lower is better.
    """

    priority = "VERY_LOW"

    def __init__(
        self, patience: int = 3, min_delta: float = 0.0, monitor: Literal["loss", "perplexity"] = "loss"
    ) -> None:
        if patience < 1:
            raise ConfigError(f"hooks.early_stopping.patience: got {patience}, expected at least 1")
        self.patience = patience
        self.min_delta = min_delta
        self.monitor = monitor

    def before_run(self, runner: Any) -> None:
        """Take up where a resumed run was."""
        state = runner.state.setdefault("early_stopping", {"lowest": None, "waited": 0})
        self._state: dict[str, Any] = state

    def after_validation(self, runner: Any, metrics: dict[str, float]) -> None:
        """Count, and stop the run where patience is at an end."""
        value = metrics[self.monitor]
        lowest = self._state["lowest"]
        if lowest is None or value < lowest - self.min_delta:
            self._state |= {"lowest": value, "waited": 0}
            return
        self._state["waited"] += 1
        if self.is_over(self._state):
            reason = f"validation {self.monitor} has not fallen below {lowest:.4f} in {self.patience} validations"
            runner.train_loop.stop_reason = self._state["reason"] = reason
            console.info(f"  stopping early: {reason}")

    def is_over(self, state: Mapping[str, Any]) -> bool:
        """Whether patience is at an end, by what this hook keeps in checkpoints."""
        return bool(state["waited"] >= self.patience)
