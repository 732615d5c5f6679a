"""Decide when checkpoints are saved, and report the results; ``Checkpointer`` does the saving."""

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xft.checkpoint.directory import corruption_of
from xft.checkpoint.resume_state import STATE_FILE
from xft.checkpoint.writer import SaveResult, check_disk_space_for_run
from xft.errors import CheckpointError, ConfigError, RunInterrupted
from xft.registry import register
from xft.training.dry_run.profile import DiskUsage, ResourceProfiler
from xft.training.hooks.base import HookCost
from xft.training.hooks.best_model import AUTO, FRESH, SCORE, BestModel
from xft.training.hooks.periodic import PeriodicHook
from xft.training.runner import Runner
from xft.training.signals import Signals
from xft.types.ranges import Count
from xft.utils import console

END_SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""Signals that end a run."""


@register("hooks", "checkpoint")
class CheckpointHook(PeriodicHook):
    """Save a checkpoint at intervals, at the end, after each better validation, and on a signal.

    A save copies the run to CPU memory; a thread writes the copy while training continues. A failed save logs
    a warning and is retried at the next save; failure of the final save is an error.

    Args:
        interval: optimizer steps between two checkpoints; ``None`` saves about five times in a run.
        save_total_limit: number of newest checkpoints to keep, in addition to the best one.
        metric_for_best_model: metric that selects the best checkpoint: a metric of the validation, or ``score``, of the
            sample questions; ``auto`` is ``loss``, and ``reward`` with sampled completions; ``None`` selects none.
        greater_is_better: direction of the metric; by default, a loss and the perplexity are better if lower.
        load_best_model_at_end: whether ``final/`` has the weights of the best checkpoint instead of the last.
        async_save: whether training continues while a checkpoint is written.
        save_optimizer_state: whether the optimizer state is saved, two thirds of a checkpoint with AdamW.
            Training cannot be resumed from a checkpoint without it. The checkpoint that is written
            when a signal ends the run always contains it.
    """

    priority = "LOW"

    def __init__(
        self,
        interval: Count | None = None,
        save_total_limit: Count = 2,
        metric_for_best_model: str | None = "auto",
        greater_is_better: bool | None = None,
        load_best_model_at_end: bool = False,
        async_save: bool = True,
        save_optimizer_state: bool = True,
    ) -> None:
        super().__init__(interval, times=5)
        if load_best_model_at_end and metric_for_best_model is None:
            key, expected = "hooks.checkpoint.load_best_model_at_end", "False without metric_for_best_model"
            raise ConfigError(key=key, got=True, expected=expected)
        self.save_total_limit = save_total_limit
        self.metric_for_best_model = metric_for_best_model
        self.greater_is_better = greater_is_better
        self.load_best_model_at_end = load_best_model_at_end
        self.async_save = async_save
        self.save_optimizer_state = save_optimizer_state

    def before_run(self, runner: Runner) -> None:
        """Restore the best step of a resumed run, check the disk space, and install signal handlers.

        Raises:
            ConfigError: the disk has too little space for the checkpoints of this run.
        """
        self._state: dict[str, Any] = runner.state.setdefault("checkpoint", {})
        self._state |= {**FRESH, **self._state}
        metric = self.metric_for_best_model
        if metric == AUTO:
            metric = runner.train_loop.validation_metric
        self._best = BestModel(metric, self.greater_is_better, self._state) if metric is not None else None
        if metric == SCORE and all(prompt.reference is None for prompt in runner.eval_prompts):
            raise ConfigError(
                key="hooks.checkpoint.metric_for_best_model",
                got=SCORE,
                expected="eval_prompts with a reference, or a metric of the validation",
            )
        # The best step at the time of the last successful save, and of the last save.
        self._confirmed, self._attempted = dict(self._state), dict(self._state)
        self._improved, self._best_step = False, 0
        # The step of the resumed checkpoint is saved already.
        self._saved_step = runner.resume_state.step if runner.resume_state is not None else None
        self._failure = ""
        self._checkpointer = runner.checkpointer
        strategy = runner.strategy
        if strategy.rank == 0:
            self._checkpointer.check_disk_space(self.save_total_limit, self.save_optimizer_state)
        self._signals = Signals(shared=strategy.world_size > 1, quiet=strategy.rank != 0)
        self._end_signal, self._save_requested = 0, False
        runner.cleanup.callback(self._shutdown)
        runner.cleanup.enter_context(self._signals)

    def after_validation(self, runner: Runner, metrics: Mapping[str, float]) -> None:
        """Record whether the model is the best so far.

        Raises:
            ConfigError: the validation has no metric of this name.
        """
        if self._best is not None and self._best.metric != SCORE:
            loop = runner.train_loop
            self._improved |= self._best.add(loop.step, metrics, loop.has_updated)

    def after_generation(self, runner: Runner, score: float) -> None:
        """Record whether the model is the best so far, if sample questions decide it."""
        if self._best is not None and self._best.metric == SCORE:
            loop = runner.train_loop
            self._improved |= self._best.add(loop.step, {SCORE: score}, loop.has_updated)

    def after_step(self, runner: Runner) -> None:
        """Report the result of the last save; save if the interval or a signal requires it.

        Raises:
            RunInterrupted: a signal has ended the run.
        """
        loop = runner.train_loop
        self._poll_and_sync(runner)
        if self._end_signal:
            self._save_and_stop(runner)
        due = self.is_due_now(loop)
        if due or self._save_requested or self._improved:
            self._save(runner, block=not self.async_save)

    def after_train(self, runner: Runner) -> None:
        """Save the last step if it is not saved yet.

        Raises:
            CheckpointError: the save failed.
        """
        self._wait(runner)
        step = runner.train_loop.step
        if self._saved_step != step:
            self._save(runner, block=True)
        if self._saved_step != step:
            raise CheckpointError(
                f"failed to save the final checkpoint step_{step} ({self._failure}); fix the cause, then continue "
                "from the newest checkpoint with --resume",
                key=f"step_{step}",
                got=self._failure,
            )

    def after_run(self, runner: Runner) -> None:
        """Report a decline of the model, and load the best checkpoint if the config asks for it. Collective.

        A best checkpoint that is missing or corrupt is a warning: the last weights are better than no model.

        Raises:
            CheckpointError: the best checkpoint cannot be loaded.
        """
        # The verdict compares the scores.
        best = self._best if self._best is not None and self._best.metric != SCORE else None
        note = best.describe_decline() if best is not None else ""
        step = runner.train_loop.step
        if self.load_best_model_at_end and self._best_step != step:
            problem = self._best_checkpoint_problem() if runner.strategy.rank == 0 else ""
            if sum(runner.strategy.reduce_sum((bool(problem),))):
                console.info(
                    f"warning: hooks.checkpoint.load_best_model_at_end: {problem}; final/ has the weights of step_{step}"
                )
            else:
                step = self._best_step
                self._checkpointer.load_weights(self._checkpointer.root / f"step_{step}")
                runner.set_weights_step(step)
        if note:
            console.info(f"warning: {note}; final/ has the weights of step_{step}")

    def _best_checkpoint_problem(self) -> str:
        """Return why the weights of the best checkpoint cannot be used; empty if they can."""
        assert self._best is not None
        if not self._best_step:
            return f"no checkpoint has a finite {self._best.metric}"
        problem = corruption_of(self._checkpointer.root / f"step_{self._best_step}")
        return f"the best checkpoint, step_{self._best_step}, is corrupt ({problem})" if problem else ""

    def _save_and_stop(self, runner: Runner) -> None:
        """Save everything that resuming needs, and end the run."""
        step = runner.train_loop.step
        self._save(runner, block=True, resumable=True)
        if self._saved_step == step:
            raise RunInterrupted(
                self._end_signal, f"saved step_{step}; continue with\n  {runner.resume_command}"
            )
        raise RunInterrupted(
            self._end_signal,
            f"failed to save step_{step} ({self._failure}); continue from the previous checkpoint with\n  "
            f"{runner.resume_command}",
        )

    def _save(self, runner: Runner, block: bool, resumable: bool = False) -> None:
        self._wait(runner)
        step = runner.train_loop.step
        runner.call_hook("before_save", step=step)
        self._attempted = dict(self._state)
        self._checkpointer.save(
            runner.run_state(),
            save_total_limit=self.save_total_limit,
            is_best=self._state["best_step"] == step,
            save_optimizer_state=self.save_optimizer_state or resumable,
        )
        self._improved = self._save_requested = False
        if block:
            self._wait(runner)

    def _wait(self, runner: Runner) -> None:
        """Wait for the save in progress and report its result. Collective."""
        self._checkpointer.wait()
        self._poll_and_sync(runner)

    def _poll_and_sync(self, runner: Runner) -> None:
        """Share the result of rank 0's last save and the signals of all ranks. Collective."""
        result, signals = self._checkpointer.poll(), self._signals
        outcome = (0, False) if result is None else (result.step + 1, result.error is None)
        end_requested = [signals.stop_signal == number for number in END_SIGNALS]
        local = (*end_requested, signals.save_requested, *outcome)
        signals.save_requested = False
        # Only rank 0 asks the sample questions, and knows their score.
        best = int(self._state["best_step"] or 0) if runner.strategy.rank == 0 else 0
        *ends, save, step_plus_one, succeeded, improved, best_step = runner.strategy.reduce_sum(
            (*local, self._improved, best)
        )
        self._improved, self._best_step = bool(improved), int(best_step)
        received = [number for number, count in zip(END_SIGNALS, ends, strict=True) if count]
        self._end_signal = self._end_signal or (received[0] if received else 0)
        self._save_requested = self._save_requested or bool(save)
        if step_plus_one and succeeded:
            self._on_saved(runner, int(step_plus_one) - 1)
        elif step_plus_one:
            self._on_save_failed(int(step_plus_one) - 1, result)

    def _on_saved(self, runner: Runner, step: int) -> None:
        self._saved_step, self._confirmed = step, self._attempted
        if self._best is not None and self._attempted["best_step"] == step:
            label = "score" if self._best.metric == SCORE else f"validation {self._best.metric}"
            limit = "" if self._best.beats_initial else "; it was better before training"
            console.info(f"  saved step_{step} (best {label} so far{limit})")
        runner.call_hook("after_save", folder=self._checkpointer.root / f"step_{step}")

    def _on_save_failed(self, step: int, result: SaveResult | None) -> None:
        self._failure = result.reason if result is not None else "rank 0 logs the reason"
        # A checkpoint that does not exist cannot be the best one.
        if self._state["best_step"] == step:
            self._state |= self._confirmed
        console.info(
            f"warning: failed to save step_{step} ({self._failure}); training continues, will retry at the next save"
        )

    def _shutdown(self) -> None:
        """Finish the save in progress, or cancel it if the run must end immediately."""
        self._checkpointer.close(cancel=self._signals.abort)

    def profile(self, runner: Runner, profiler: ResourceProfiler) -> HookCost | None:
        """Write one checkpoint into the folder of the dry run, and measure its size.

        Raises:
            ConfigError: the disk is too small for the checkpoints of the run.
        """
        console.info("dry run: checkpoint")
        checkpointer = runner.checkpointer
        with profiler.phase("checkpoint", "copied, written, flushed and read back"):
            if runner.strategy.rank == 0:
                checkpointer.root.mkdir(parents=True, exist_ok=True)
                checkpointer.check_disk_space(self.save_total_limit, self.save_optimizer_state)
            options = {"save_optimizer_state": self.save_optimizer_state, "block": True}
            checkpointer.save(runner.run_state(), self.save_total_limit, **options)
            result = checkpointer.poll()
            if result is not None and result.error is not None:
                raise result.error
            if result is not None:
                profiler.disk = self._disk_usage(checkpointer.root / f"step_{result.step}")
                check_disk_space_for_run(
                    checkpointer.root, profiler.disk.checkpoint_bytes, self.save_total_limit
                )
        calls = self.count_calls(runner.train_loop.plan.num_steps)
        return HookCost(f"{calls} checkpoints", calls * profiler.seconds("checkpoint"))

    def _disk_usage(self, checkpoint: Path) -> DiskUsage:
        sizes = {path.name: path.stat().st_size for path in checkpoint.rglob("*") if path.is_file()}
        total, state = sum(sizes.values()), Path(STATE_FILE).stem
        return DiskUsage(
            checkpoint_bytes=total,
            final_bytes=sum(size for name, size in sizes.items() if not name.startswith(state)),
            free_bytes=shutil.disk_usage(checkpoint).free + total,
            save_total_limit=self.save_total_limit,
            keeps_best=self.metric_for_best_model is not None,
        )

    def suggest_less_memory(self, phase: str) -> str | None:
        """Suggest checkpoints without optimizer state."""
        if phase != "checkpoint" or not self.save_optimizer_state:
            return None
        return "save_optimizer_state=False  (training cannot be resumed from such a checkpoint)"
