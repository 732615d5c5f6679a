"""A hook that reads a clock before the training and after each optimizer step."""

import time
from itertools import pairwise
from typing import Any, ClassVar, Literal

from mmengine.hooks import Hook

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class StepClock(Hook):
    """Record the time of each step of the run in this process.

    Args:
        clock: time on the wall, or CPU time of the process.
    """

    _times: ClassVar[list[float]] = []

    def __init__(self, clock: Literal["wall", "cpu"] = "wall") -> None:
        self._read = CLOCKS[clock]

    def before_train(self, runner: Any) -> None:
        """Start the clock."""
        self._times[:] = [self._read()]

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Record the end of a step."""
        self._times.append(self._read())

    @classmethod
    def seconds(cls) -> list[float]:
        """Return the seconds of each step of the last run."""
        return [end - begin for begin, end in pairwise(cls._times)]
