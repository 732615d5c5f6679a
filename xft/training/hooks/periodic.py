"""When a hook acts."""

from xft.compat.mmengine import Hook
from xft.errors import ConfigError


class PeriodicHook(Hook):
    """Acts every ``interval`` steps, and at the last step.

    Args:
        interval: optimizer steps; ``None`` chooses so that it acts ``times`` in a run.
        times: see ``interval``.
    """

    def __init__(self, interval: int | None, times: int) -> None:
        if interval is not None and interval < 1:
            raise ConfigError(f"interval: got {interval}, expected at least 1, or None")
        self.interval = interval
        self.times = times

    def is_due(self, step: int, num_steps: int) -> bool:
        """Whether it is time, after ``step`` of ``num_steps``."""
        interval = self.interval or max(1, round(num_steps / self.times))
        return step == num_steps or step % interval == 0
