"""Lines for the person who waits, and a record of every step."""

import time
from typing import Any

import torch

from xft import console, machine
from xft.engine.hooks.interval import IntervalHook
from xft.registry import register


@register("hooks", "progress")
class ProgressHook(IntervalHook):
    """Records every step, and prints a line for some.

    Args:
        interval: steps between two lines; ``None`` prints about twenty in a run.
    """

    priority = "ABOVE_NORMAL"

    def __init__(self, interval: int | None = None) -> None:
        super().__init__(interval, times=20)
        self._steps = 0
        self._since: list[dict[str, float]] = []

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
        runner.record("train", **record, epoch=_epoch(loop), eta_seconds=round(eta, 1), memory=memory)
        if self.is_due(loop.step, loop.plan.num_steps):
            console.say(self._line(loop, eta))
            self._since.clear()

    def _line(self, loop: Any, eta: float) -> str:
        targets = sum(each["target_tokens"] for each in self._since)
        loss = sum(each["loss"] * each["target_tokens"] for each in self._since) / max(targets, 1)
        rate = sum(each["tokens"] for each in self._since) / sum(each["seconds"] for each in self._since)
        last = self._since[-1]
        width = len(str(loop.plan.num_steps))
        return (
            f"step {loop.step:>{width}}/{loop.plan.num_steps}  epoch {_epoch(loop):.2f}  loss {loss:.4f}  "
            f"lr {last['lr']:.2e}  grad {last['grad_norm']:.2f}  {rate:,.0f} tok/s  {clock(eta)} left"
        )


def _memory(device: torch.device) -> int:
    """The most bytes that were held so far: of the GPU, or of this process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else machine.peak_resident()


def _epoch(loop: Any) -> float:
    return round(float(loop.step / loop.plan.batches.steps_per_epoch), 4)


def clock(seconds: float) -> str:
    """``2h05m``, ``3m20s`` or ``12s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
