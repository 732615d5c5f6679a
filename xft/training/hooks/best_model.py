"""Find the best validation of a run, under the names of transformers."""

import math
from collections.abc import Mapping
from typing import Any

from xft.errors import ConfigError

SCORE = "score"
"""Metric of the sample questions; all others belong to the validation split."""
AUTO = "auto"
"""Metric that depends on the objective."""
LOWER_IS_BETTER = ("loss", "perplexity")
FRESH: Mapping[str, Any] = {
    "initial_value": None,
    "best_step": None,
    "best_value": None,
    "last_step": None,
    "last_value": None,
}
"""State of a new run. The model before the first update has a value but no checkpoint."""


class BestModel:
    """Compare a metric at several steps.

    Args:
        metric: a validation metric, or ``score``.
        greater_is_better: direction; ``None`` decides it by the metric: a loss and the perplexity are better if lower.
        state: see ``FRESH``; changed in place.
    """

    def __init__(self, metric: str, greater_is_better: bool | None, state: dict[str, Any]) -> None:
        self.metric = metric
        lower = metric.endswith(LOWER_IS_BETTER)
        self._sign = 1 if greater_is_better or (greater_is_better is None and not lower) else -1
        self.state = state

    def add(self, step: int, metrics: Mapping[str, float], has_updated: bool) -> bool:
        """Record the metrics of a step; return whether its model is the best so far and needs a checkpoint.

        Args:
            step: number of steps so far.
            metrics: by name.
            has_updated: whether a step has changed the weights.

        Raises:
            ConfigError: the validation split has no such metric.
        """
        if self.metric not in metrics:
            raise ConfigError(
                key="hooks.checkpoint.metric_for_best_model",
                got=self.metric,
                expected=f"one of {', '.join(sorted({*metrics, SCORE}))}",
            )
        value = metrics[self.metric]
        self.state |= {"last_step": step, "last_value": value}
        if not has_updated:
            self.state["initial_value"] = value if step == 0 else self.state["initial_value"]
        elif self._is_better(value, self.state["best_value"]):
            self.state |= {"best_step": step, "best_value": value}
            return True
        return False

    @property
    def beats_initial(self) -> bool:
        """Whether the best checkpoint is not worse than the model before training."""
        return not self._is_better(self.state["initial_value"], self.state["best_value"])

    def describe_decline(self) -> str:
        """Return a note if the last value is worse than an earlier one; empty otherwise."""
        state = self.state
        if state["last_step"] is None:
            return ""
        best, where = state["best_value"], f"step {state['best_step']}"
        if best is None or self._is_better(state["initial_value"], best):
            best, where = state["initial_value"], "step 0, before training"
        if not self._is_better(best, state["last_value"]):
            return ""
        last = f"{self.metric} {state['last_value']:.4f} at step {state['last_step']}"
        return f"the last validation is worse than the best: {last}, {best:.4f} at {where}"

    def _is_better(self, value: float | None, other: float | None) -> bool:
        """Return whether a value is better than another; a missing or non-finite one never is."""
        if value is None or not math.isfinite(value):
            return False
        return other is None or not math.isfinite(other) or self._sign * value > self._sign * other
