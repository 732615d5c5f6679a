"""Checkpoints: the last, the best, and as many as are kept."""

import signal
from types import TracebackType
from typing import Any, Literal

from xft.checkpoint import directory
from xft.checkpoint.snapshot import Snapshot
from xft.checkpoint.writer import Job, Saved, Saver, ShareJob, check_free
from xft.errors import CheckpointError, ConfigError
from xft.registry import register
from xft.training.hooks.periodic import PeriodicHook
from xft.training.signals import Signals, Stopped
from xft.utils import console

ENDS = (signal.SIGTERM, signal.SIGINT)
"""The signals that end a run."""


@register("hooks", "checkpoint")
class CheckpointHook(PeriodicHook):
    """Saves at intervals and at the end, after each better validation, and when a signal asks for it.

    A save copies the training into the memory of the host; a thread writes it while training goes
    on. A save that fails is said, and the next one tries again; the last one must succeed.

    Args:
        interval: steps between two checkpoints; ``None`` saves about five times in a run.
        keep_last_n: number of newest checkpoints to keep, in addition to the best one.
        monitor: validation metric that selects the best checkpoint, lower is better; ``None`` selects none.
        async_save: whether training continues while a checkpoint is written.
        save_optimizer_state: whether the optimizer state is saved, two thirds of a checkpoint with AdamW.
            Training cannot be resumed from a checkpoint without it. The checkpoint that is written
            when a signal ends the run always contains it.
    """

    priority = "LOW"

    def __init__(
        self,
        interval: int | None = None,
        keep_last_n: int = 2,
        monitor: Literal["loss", "perplexity"] | None = "loss",
        async_save: bool = True,
        save_optimizer_state: bool = True,
    ) -> None:
        super().__init__(interval, times=5)
        if keep_last_n < 1:
            raise ConfigError(key="hooks.checkpoint.keep_last_n", got=keep_last_n, expected="at least 1")
        self.keep_last_n = keep_last_n
        self.monitor = monitor
        self.async_save = async_save
        self.save_optimizer_state = save_optimizer_state

    def before_run(self, runner: Any) -> None:
        """Take up where a resumed run was, see that there is room, and listen to signals.

        Raises:
            ConfigError: the disk has too little room for the checkpoints of this run.
        """
        self._state: dict[str, Any] = runner.state.setdefault(
            "checkpoint", {"best_step": None, "best_value": None}
        )
        # What was the best when the last good save and the last save were taken.
        self._proven, self._tried = dict(self._state), dict(self._state)
        self._improved = False
        # The step that a resumed run goes on from is saved already; a new run has saved none.
        self._saved: int | None = runner.resumed.get("step")
        self._reason = ""
        self._root = directory.folder_of(runner.work_folder)
        strategy = runner.strategy
        if strategy.rank == 0:
            check_free(self._root, runner.checkpoint_size(self.save_optimizer_state), self.keep_last_n)
        self._saver = Saver()
        self._signals = Signals(shared=strategy.world_size > 1, quiet=strategy.rank != 0)
        self._stop_asked, self._save_asked = 0, False
        runner.cleanup.push(self._end)
        runner.cleanup.enter_context(self._signals)

    def after_validation(self, runner: Any, metrics: dict[str, float]) -> None:
        """Remember whether the model is the best so far."""
        if self.monitor is None or runner.train_loop.step == 0:
            return
        value, best = metrics[self.monitor], self._state["best_value"]
        if best is None or value < best:
            self._state |= {"best_value": value, "best_step": runner.train_loop.step}
            self._improved = True

    def after_step(self, runner: Any) -> None:
        """Hear what became of the last save, and save where it is time or a signal asks for it.

        Raises:
            Stopped: a signal has ended the run.
        """
        loop = runner.train_loop
        self._hear(runner)
        if self._stop_asked:
            self._stop(runner)
        due = self.is_due(loop.step, loop.plan.num_steps) or loop.stop_reason is not None
        if due or self._save_asked or self._improved:
            self._save(runner, not self.async_save, self.save_optimizer_state)

    def after_train(self, runner: Any) -> None:
        """See that the end of the run is saved.

        Raises:
            CheckpointError: it cannot be.
        """
        self._finish(runner)
        step = runner.train_loop.step
        if self._saved != step:
            self._save(runner, wait=True, optimizer=self.save_optimizer_state)
        if self._saved != step:
            raise CheckpointError(
                f"step_{step}, the last of the run, could not be saved ({self._reason}); mend that, and go on "
                "from the newest checkpoint with --resume"
            )

    def _stop(self, runner: Any) -> None:
        """Save, with everything that a resumed run needs, and end the run."""
        step = runner.train_loop.step
        self._save(runner, wait=True, optimizer=True)
        if self._saved == step:
            raise Stopped(self._stop_asked, f"saved step_{step}; go on with --resume")
        raise Stopped(
            self._stop_asked,
            f"step_{step} could not be saved ({self._reason}); --resume goes on from the checkpoint before it",
        )

    def _save(self, runner: Any, wait: bool, optimizer: bool) -> None:
        self._finish(runner)
        step = runner.train_loop.step
        runner.call_hook("before_save", step=step)
        snapshot = runner.snapshot(optimizer)
        self._tried = dict(self._state)
        if isinstance(snapshot, Snapshot):
            best = self._state["best_step"] == step
            self._saver.start(Job(snapshot, self._root, self.keep_last_n, best, runner.flush_loggers))
        elif snapshot is not None:
            self._saver.start(ShareJob(snapshot, self._root, step))
        self._improved = self._save_asked = False
        if wait:
            self._finish(runner)

    def _finish(self, runner: Any) -> None:
        """Wait for the save that is under way. All ranks do."""
        self._saver.wait()
        self._hear(runner)

    def _hear(self, runner: Any) -> None:
        """Share between the ranks what the first one has saved, and what signals ask of any of them."""
        saved, heard = self._saver.take(), self._signals
        if runner.strategy.rank != 0:
            saved = None  # the first rank knows what became of the shares of all
        outcome = (0, False) if saved is None else (saved.step + 1, saved.error is None)
        own = (*(heard.stop == number for number in ENDS), heard.save, *outcome)
        heard.save = False
        *ends, save, after, good = runner.strategy.reduce_sum(own)
        stops = [number for number, count in zip(ENDS, ends, strict=True) if count]
        self._stop_asked = self._stop_asked or (stops[0] if stops else 0)
        self._save_asked = self._save_asked or bool(save)
        if after and good:
            self._account(runner, int(after) - 1)
        elif after:
            self._regret(int(after) - 1, saved)

    def _account(self, runner: Any, step: int) -> None:
        self._saved, self._proven = step, self._tried
        if self._tried["best_step"] == step:
            console.info(f"  saved step_{step} (best validation so far)")
        runner.call_hook("after_save", folder=self._root / f"step_{step}")

    def _regret(self, step: int, saved: Saved | None) -> None:
        self._reason = saved.reason if saved is not None else "the first rank says why"
        # What is not there cannot be the best: the next one that is better than what is there is.
        if self._state["best_step"] == step:
            self._state |= self._proven
        console.info(
            f"warning: step_{step} could not be saved ({self._reason}); training goes on, and the next save tries "
            "again"
        )

    def _end(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the save that is under way be finished, unless the run is to end at once."""
        if self._signals.at_once:
            self._saver.abandon()
            return
        try:
            self._saver.wait()
        except KeyboardInterrupt:
            self._saver.abandon()
            raise
