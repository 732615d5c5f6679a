"""Lines for the person who waits, and a record of every step."""

import time
from typing import Any

import torch

from xft.registry import register
from xft.reporting import progress_display
from xft.training.hooks.periodic import PeriodicHook
from xft.utils import console, system
from xft.utils.console import format_duration


@register("hooks", "progress")
class ProgressHook(PeriodicHook):
    """Records every step, and prints a line for some.

    Args:
        interval: steps between two lines; ``None`` prints about twenty in a run.
        live: draw on the terminal while the run goes on, in place of these lines, where the output
            goes to one. ``False`` prints lines there too.
    """

    priority = "ABOVE_NORMAL"

    def __init__(self, interval: int | None = None, live: bool = True) -> None:
        super().__init__(interval, times=20)
        self.live = live
        self._drawn = False
        self._steps = 0
        self._since: list[dict[str, float]] = []

    def before_run(self, runner: Any) -> None:
        """Begin to draw, where that is wanted and can be."""
        self._drawn = self.live and runner.strategy.rank == 0 and progress_display.is_supported()
        if self._drawn:
            loop = runner.train_loop
            epochs = loop.plan.num_steps / loop.plan.batches.steps_per_epoch
            view = progress_display.ProgressDisplay(runner.run_dir.name, loop.plan.num_steps, epochs)
            runner.loggers.append(view)
            runner.cleanup.enter_context(view)

    def before_train(self, runner: Any) -> None:
        """Remember when the run began."""
        self._begun = time.perf_counter()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Record the step; print a line where it is time."""
        loop = runner.train_loop
        self._steps += 1
        self._since.append(outputs)
        left = loop.plan.num_steps - loop.step
        # The mean over the run so far, validation and questions included: what one waits for.
        eta = (time.perf_counter() - self._begun) / self._steps * left
        record = {key: value for key, value in outputs.items() if key != "seconds"}
        memory = _memory(runner.strategy.device)
        runner.record(
            "train", **record, epoch=_epoch(loop), eta_seconds=round(eta, 1), peak_memory_bytes=memory
        )
        if self.is_due(loop.step, loop.plan.num_steps):
            console.info(self._line(loop, eta), terminal=not self._drawn)
            self._since.clear()

    def _line(self, loop: Any, eta: float) -> str:
        targets = sum(each["target_tokens"] for each in self._since)
        loss = sum(each["loss"] * each["target_tokens"] for each in self._since) / max(targets, 1)
        rate = sum(each["tokens"] for each in self._since) / sum(each["seconds"] for each in self._since)
        last = self._since[-1]
        width = len(str(loop.plan.num_steps))
        return (
            f"step {loop.step:>{width}}/{loop.plan.num_steps}  epoch {_epoch(loop):.2f}  loss {loss:.4f}  "
            f"lr {last['lr']:.2e}  grad_norm {last['grad_norm']:.2f}  {rate:,.0f} tok/s  ETA {format_duration(eta)}"
        )


def _memory(device: torch.device) -> int:
    """The most bytes that were held so far: of the GPU, or of this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else system.peak_rss_bytes()


def _epoch(loop: Any) -> float:
    return round(float(loop.step / loop.plan.batches.steps_per_epoch), 4)
