"""Base class of all hooks of xft."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xft.compat.mmengine import Hook as MMEngineHook
from xft.training.dry_run.profile import ResourceProfiler
from xft.training.runner import Runner
from xft.types import Batch


@dataclass(frozen=True)
class HookCost:
    """Time that a hook takes in a whole run, as estimated by the dry run.

    Attributes:
        label: what the time is spent on, with the number of calls: ``5 validations``.
        seconds: total time in seconds.
    """

    label: str
    seconds: float


class Hook(MMEngineHook):
    """Code that runs at fixed moments of a training.

    The runner calls each method on all ranks, in the main thread, and in the order of the hooks'
    ``priority``. A subclass overrides the moments that it needs. Hooks derived from
    ``mmengine.hooks.Hook`` work too: the runner skips the moments that they do not define.
    """

    def before_run(self, runner: Runner) -> None:
        """Set up the hook. The state of a resumed run is loaded already."""

    def before_train(self, runner: Runner) -> None:
        """Run before the first step of a new or resumed run."""

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Sequence[Batch],
        outputs: Mapping[str, float],
    ) -> None:
        """Run after each optimizer step.

        Args:
            runner: the runner; ``runner.train_loop.step`` already counts this step.
            batch_idx: index of the step, from 0.
            data_batch: micro-batches of the step on this rank.
            outputs: metrics of the step, the same on all ranks.
        """

    def after_train(self, runner: Runner) -> None:
        """Run after the last step."""

    def after_run(self, runner: Runner) -> None:
        """Run after all hooks have finished ``after_train``."""

    def after_step(self, runner: Runner) -> None:
        """Run after all hooks have finished ``after_train_iter`` of a step, independent of their priority."""

    def after_validation(self, runner: Runner, metrics: Mapping[str, float]) -> None:
        """Run after each evaluation of the validation split.

        Args:
            runner: the runner.
            metrics: validation metrics, the same on all ranks.
        """

    def after_generation(self, runner: Runner, score: float) -> None:
        """Run after the sample questions are answered, on the ranks that answer them.

        Args:
            runner: the runner.
            score: sum of the scores of the questions with a reference.
        """

    def after_nonfinite(self, runner: Runner, reason: str, rows: Sequence[str]) -> None:
        """Run when the loss or the gradient norm of a step is not finite.

        The run ends unless a hook sets ``runner.train_loop.skip_nonfinite``, which skips the step.

        Args:
            runner: the runner; ``runner.train_loop.step`` does not count this step yet.
            reason: which number is not finite.
            rows: origins of the rows involved, as ``file:line``.
        """

    def before_save(self, runner: Runner, step: int) -> None:
        """Run before the training state is copied for a checkpoint.

        Args:
            runner: the runner.
            step: step of the checkpoint.
        """

    def after_save(self, runner: Runner, folder: Path) -> None:
        """Run after a checkpoint is on the disk: at the end of the next step, or before the run ends.

        Args:
            runner: the runner.
            folder: folder of the checkpoint.
        """

    def profile(self, runner: Runner, profiler: ResourceProfiler) -> HookCost | None:
        """Run the most expensive action of the hook once, for the dry run. All ranks call it.

        Args:
            runner: the runner of the dry run; nothing that the action writes is kept.
            profiler: measures the action as a phase, and raises if it runs out of memory.

        Returns:
            The estimated time of the hook in a whole run; ``None`` if it is negligible.
        """
        return None

    def suggest_less_memory(self, phase: str) -> str | None:
        """Suggest a change of this hook's config that reduces the memory of a phase.

        Args:
            phase: phase of the dry run that needs too much memory (see ``PhaseStats``).

        Returns:
            ``KEY=VALUE  (consequence)`` with a key of this hook; ``None`` if there is no such change.
        """
        return None
