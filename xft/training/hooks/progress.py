"""Record every step, and report progress on the terminal."""

import time
from collections.abc import Mapping, Sequence

import torch

from xft.registry import register
from xft.reporting import progress_display
from xft.training.hooks.periodic import PeriodicHook
from xft.training.loop import TrainLoop
from xft.training.runner import Runner
from xft.types import Batch
from xft.types.ranges import Count
from xft.utils import console, system
from xft.utils.console import format_duration


@register("hooks", "progress")
class ProgressHook(PeriodicHook):
    """Record every step, and print a line at intervals.

    Args:
        interval: steps between two lines; ``None`` prints about twenty lines per run.
        live: whether a live display replaces these lines when the output is a terminal.
    """

    priority = "ABOVE_NORMAL"
    min_interval = 1

    def __init__(self, interval: Count | None = None, live: bool = True) -> None:
        super().__init__(interval, times=20)
        self.live = live
        self._display_active = False
        self._num_steps = 0
        self._pending: list[Mapping[str, float]] = []

    def before_run(self, runner: Runner) -> None:
        """Start the live display, if it is enabled and the output is a suitable terminal."""
        self._display_active = self.live and runner.strategy.rank == 0 and progress_display.is_supported()
        if self._display_active:
            plan = runner.train_loop.plan
            epochs = plan.num_steps / plan.batches.steps_per_epoch
            display = progress_display.ProgressDisplay(runner.run_dir.name, plan.num_steps, epochs)
            runner.loggers.append(display)
            runner.cleanup.enter_context(display)

    def before_train(self, runner: Runner) -> None:
        """Start the clock of the ETA."""
        self._started = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Sequence[Batch], outputs: Mapping[str, float]
    ) -> None:
        """Record the step, and print a line if one is due."""
        loop = runner.train_loop
        self._num_steps += 1
        self._pending.append(outputs)
        remaining = loop.plan.num_steps - loop.step
        # The mean over the run so far includes validation and sample questions, as the user's wait does.
        eta = (time.perf_counter() - self._started) / self._num_steps * remaining
        record = {key: value for key, value in outputs.items() if key != "seconds"}
        memory = _peak_memory_bytes(runner.strategy.device)
        runner.record(
            "train", **record, epoch=_epoch(loop), eta_seconds=round(eta, 1), peak_memory_bytes=memory
        )
        if self.is_due_now(loop):
            console.info(self._format_line(loop, eta), terminal=not self._display_active)
            self._pending.clear()

    def _format_line(self, loop: TrainLoop, eta: float) -> str:
        steps, last = self._pending, self._pending[-1]
        targets = sum(step["target_tokens"] for step in steps)
        loss = sum(step["loss"] * step["target_tokens"] for step in steps) / max(targets, 1)
        rate = sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps)
        width = len(str(loop.plan.num_steps))
        result = f"loss {loss:.4f}"
        if "reward" in last:
            # The loss of GRPO is near 0 by construction.
            reward = sum(step["reward"] for step in steps) / len(steps)
            result = (
                f"reward {reward:.3f} ± {last['reward_std']:.3f}  stopped {last['completions/stopped']:.0%}  "
                f"length {last['completions/mean_length']:.0f}"
            )
        return (
            f"step {loop.step:>{width}}/{loop.plan.num_steps}  epoch {_epoch(loop):.2f}  {result}  "
            f"lr {last['lr']:.2e}  grad_norm {last['grad_norm']:.2f}  {rate:,.0f} tok/s  ETA {format_duration(eta)}"
        )


def _peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory so far: allocated on the GPU, or resident in this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else system.peak_rss_bytes()


def _epoch(loop: TrainLoop) -> float:
    return round(float(loop.step / loop.plan.batches.steps_per_epoch), 4)
