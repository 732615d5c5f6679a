"""Checkpoints: the last, the best, and as many as are kept."""

import shutil
from typing import Any, Literal

from xft import console
from xft.engine import checkpoint
from xft.engine.hooks.interval import IntervalHook
from xft.errors import ConfigError
from xft.registry import register


@register("hooks", "checkpoint")
class CheckpointHook(IntervalHook):
    """Saves at intervals and at the end, and after each better validation.

    Args:
        interval: steps between two checkpoints; ``None`` saves about five times in a run.
        keep: how many of the newest are kept; the best is kept in any case.
        best: the figure of the validation that says which is best; lower is better. ``None``
            keeps no best one.
    """

    priority = "LOW"

    def __init__(
        self,
        interval: int | None = None,
        keep: int = 2,
        best: Literal["loss", "perplexity"] | None = "loss",
    ) -> None:
        super().__init__(interval, times=5)
        if keep < 1:
            raise ConfigError(f"hooks.checkpoint.keep: got {keep}, expected at least 1")
        self.keep = keep
        self.best = best

    def before_run(self, runner: Any) -> None:
        """Take up where a resumed run was."""
        self._best_step: int | None = runner.resumed.get("best_step")
        self._best_value: float | None = runner.resumed.get("best_value")
        self._improved = False

    def after_validation(self, runner: Any, metrics: dict[str, float]) -> None:
        """Remember whether the model is the best so far."""
        if self.best is None or runner.train_loop.step == 0:
            return
        value = metrics[self.best]
        if self._best_value is None or value < self._best_value:
            self._best_value, self._best_step = value, runner.train_loop.step
            self._improved = True

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save where it is time."""
        loop = runner.train_loop
        if self.is_due(loop.step, loop.plan.num_steps) or self._improved:
            self._save(runner)

    def after_train(self, runner: Any) -> None:
        """Save what an early end left unsaved."""
        if runner.train_loop.step not in checkpoint.saved_steps(runner.work_folder):
            self._save(runner)

    def _save(self, runner: Any) -> None:
        step = runner.train_loop.step
        extra = {"best_step": self._best_step, "best_value": self._best_value}
        folder = runner.save(step, extra)
        self._improved = False
        if runner.strategy.rank != 0:
            return
        checkpoint.link(folder, "last")
        if self._best_step == step:
            checkpoint.link(folder, "best")
            console.say(f"  saved {folder.name} (best validation so far)")
        self._prune(runner)

    def _prune(self, runner: Any) -> None:
        for step in checkpoint.saved_steps(runner.work_folder)[: -self.keep]:
            if step != self._best_step:
                shutil.rmtree(checkpoint.folder_of(runner.work_folder) / f"step_{step}")
