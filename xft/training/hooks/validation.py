"""The validation loss, before and during training."""

import math
from collections.abc import Sequence
from typing import Any

from xft.evaluation import evaluate
from xft.evaluation.validation import validation_batches
from xft.models import unwrap
from xft.registry import register
from xft.training.hooks.periodic import PeriodicHook
from xft.types import Sample
from xft.utils import console


@register("hooks", "validation")
class ValidationHook(PeriodicHook):
    """Evaluates the validation split before the first step, at intervals and at the end.

    Args:
        interval: steps between two evaluations; ``None`` takes about five in a run.
        batch_size: samples at once.
    """

    priority = "NORMAL"

    def __init__(self, interval: int | None = None, batch_size: int = 8) -> None:
        super().__init__(interval, times=5)
        self.batch_size = batch_size

    def before_train(self, runner: Any) -> None:
        """Evaluate what the run begins with."""
        if runner.train_loop.step == 0:
            self._evaluate(runner)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Evaluate where it is time."""
        loop = runner.train_loop
        if self.is_due(loop.step, loop.plan.num_steps):
            self._evaluate(runner)

    def _evaluate(self, runner: Any) -> None:
        samples = runner.val_samples
        if not samples:
            return
        metrics = self.measure(runner, samples)
        runner.record("val", **{key: value for key, value in metrics.items() if math.isfinite(value)})
        console.info(f"  validation at step {runner.train_loop.step}: {_figures(metrics)}")
        runner.call_hook("after_validation", metrics=metrics)

    def measure(self, runner: Any, samples: Sequence[Sample]) -> dict[str, float]:
        """Evaluate the model on some samples, each rank on its share."""
        strategy, loop = runner.strategy, runner.train_loop
        batches = validation_batches(
            samples,
            self.batch_size,
            loop.collator,
            strategy.data_rank,
            strategy.data_world_size,
        )
        with strategy.autocast():
            return evaluate(
                unwrap(strategy.model),
                map(strategy.to_device, batches),
                strategy.device,
                strategy.reduce_data_sum,
            )


def _figures(metrics: dict[str, float]) -> str:
    """The few that a person looks at first."""
    shown = [f"loss {metrics['loss']:.4f}"]
    if "perplexity" in metrics:
        shown.append(f"perplexity {metrics['perplexity']:.2f}")
    for name, form in (("accuracy", ".1%"), ("rewards/accuracies", ".1%"), ("rewards/margins", ".3f")):
        if name in metrics:
            shown.append(f"{name} {metrics[name]:{form}}")
    return "  ".join(shown)
