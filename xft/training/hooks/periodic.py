"""Base class of hooks that act at intervals."""

import math

from xft.errors import ConfigError
from xft.training.hooks.base import Hook
from xft.training.loop import TrainLoop


class PeriodicHook(Hook):
    """Act every ``interval`` steps, and at the last step, also of a run that stops early.

    Args:
        interval: number of optimizer steps; ``None`` chooses it to act ``times`` times per run, or less often in a run of
            few steps.
        times: see ``interval``.

    Attributes:
        min_interval: shortest interval that is chosen, unless it is longer than half of the run.
    """

    min_interval = 4

    def __init__(self, interval: int | None, times: int) -> None:
        if interval is not None and interval < 1:
            raise ConfigError(key="interval", got=interval, expected="at least 1, or None")
        self.interval = interval
        self.times = times

    def steps_between(self, num_steps: int) -> int:
        """Return the interval in a run of ``num_steps``."""
        shortest = min(self.min_interval, max(2, math.ceil(num_steps / 2)), num_steps)
        return self.interval or max(shortest, round(num_steps / self.times))

    def is_due(self, step: int, num_steps: int) -> bool:
        """Return whether the hook acts after ``step`` of ``num_steps``.

        An interval that is chosen for the run leaves out a step shortly before the last one.
        """
        if step == num_steps:
            return True
        interval = self.steps_between(num_steps)
        return step % interval == 0 and (self.interval is not None or num_steps - step > interval / 2)

    def is_due_now(self, loop: TrainLoop) -> bool:
        """Return whether the hook acts after the current step, which a reason to stop makes the last one."""
        return loop.stop_reason is not None or self.is_due(loop.step, loop.plan.num_steps)

    def count_calls(self, num_steps: int) -> int:
        """Return how often the hook acts after a step of a run of ``num_steps``."""
        return sum(self.is_due(step, num_steps) for step in range(1, num_steps + 1))
