"""Validation loss and metrics before, during and after training."""

import math
from collections.abc import Mapping, Sequence

from xft.data import SampleView
from xft.evaluation import evaluate
from xft.evaluation.validation import validation_batches
from xft.models import unwrap
from xft.registry import register
from xft.training.dry_run.profile import ResourceProfiler
from xft.training.hooks.base import HookCost
from xft.training.hooks.periodic import PeriodicHook
from xft.training.rollout_loop import RolloutLoop
from xft.training.runner import Runner
from xft.types import Batch, Sample
from xft.types.ranges import Count
from xft.utils import console


@register("hooks", "validation")
class ValidationHook(PeriodicHook):
    """Evaluate the validation split before the first step, at intervals and at the last step.

    Args:
        interval: steps between two evaluations; ``None`` evaluates about five times per run.
        batch_size: samples per forward pass and rank.
    """

    priority = "NORMAL"

    def __init__(self, interval: Count | None = None, batch_size: Count = 8) -> None:
        super().__init__(interval, times=5)
        self.batch_size = batch_size

    def before_train(self, runner: Runner) -> None:
        """Evaluate the untrained model of a new run."""
        if runner.train_loop.step == 0:
            self._evaluate(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Sequence[Batch], outputs: Mapping[str, float]
    ) -> None:
        """Evaluate if an evaluation is due."""
        if self.is_due_now(runner.train_loop):
            self._evaluate(runner)

    def _evaluate(self, runner: Runner) -> None:
        samples = runner.val_samples
        if not samples:
            return
        metrics = self.measure(runner, samples)
        runner.record("val", **{name: value for name, value in metrics.items() if math.isfinite(value)})
        console.info(f"  validation at step {runner.train_loop.step}: {_format_metrics(metrics)}")
        runner.call_hook("after_validation", metrics=metrics)

    def measure(self, runner: Runner, samples: Sequence[Sample]) -> dict[str, float]:
        """Evaluate the model on samples, which the ranks divide among themselves.

        Returns:
            Metrics, the same on all ranks (see :func:`xft.evaluation.evaluate`).
        """
        strategy, loop = runner.strategy, runner.train_loop
        if isinstance(loop, RolloutLoop):
            assert isinstance(samples, SampleView)
            return loop.validate(samples)
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

    def profile(self, runner: Runner, profiler: ResourceProfiler) -> HookCost | None:
        """Measure the largest batch, and extrapolate its time to the whole split by tokens."""
        samples, loop = runner.val_samples, runner.train_loop
        if not isinstance(samples, SampleView) or not len(samples):
            return None
        calls = self.count_calls(loop.plan.num_steps) + 1  # one before the first step
        if isinstance(loop, RolloutLoop):
            console.info("dry run: validation prompts")
            with profiler.phase("validation", f"{len(samples):,} prompts"):
                self.measure(runner, samples)
            return HookCost(f"{calls} validations", calls * profiler.seconds("validation"))
        console.info("dry run: largest validation batch")
        size = loop.collator.samples_per_example
        sizes = samples.lengths.reshape(-1, size).sum(axis=1)
        longest = sizes.argsort()[::-1][: self.batch_size * runner.strategy.data_world_size]
        batch = [samples[int(index) * size + offset] for index in longest for offset in range(size)]
        tokens = int(sizes[longest].sum())
        with profiler.phase("validation", f"{len(longest):,} of {len(sizes):,} rows, {tokens:,} tokens"):
            self.measure(runner, batch)
        seconds = profiler.seconds("validation") * int(sizes.sum()) / tokens
        return HookCost(f"{calls} validations", calls * seconds)

    def suggest_less_memory(self, phase: str) -> str | None:
        """Suggest half the batch size for the validation."""
        if phase != "validation" or self.batch_size == 1:
            return None
        return f"batch_size={self.batch_size // 2}  (slower validation)"


def _format_metrics(metrics: Mapping[str, float]) -> str:
    """Format the most important metrics in one line."""
    if "reward" in metrics:
        return f"reward {metrics['reward']:.3f}  stopped {metrics['completions/stopped']:.0%}"
    parts = [f"loss {metrics['loss']:.4f}"]
    if "perplexity" in metrics:
        parts.append(f"perplexity {metrics['perplexity']:.2f}")
    for name, form in (("accuracy", ".1%"), ("rewards/accuracies", ".1%"), ("rewards/margins", ".3f")):
        if name in metrics:
            parts.append(f"{name} {metrics[name]:{form}}")
    return "  ".join(parts)
