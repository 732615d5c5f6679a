"""Start and duration of a run that may be interrupted and resumed."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

CLOCK = "clock"
"""Key of its state in a checkpoint, next to those of the hooks."""


def now() -> str:
    """Return the local time with its zone, in ISO 8601 to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


@dataclass
class RunClock:
    """Measure a run over all of its parts, without the pauses between them.

    Attributes:
        started_at: start of the first part, in ISO 8601.
        past_seconds: duration in seconds of the earlier parts, each up to the checkpoint that the next one resumed.
    """

    started_at: str = field(default_factory=now)
    past_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._start = time.perf_counter()

    @classmethod
    def resumed(cls, state: Mapping[str, Any] | None) -> "RunClock":
        """Continue the clock of a checkpoint; ``None`` starts a new one."""
        return cls() if state is None else cls(**state)

    @property
    def seconds(self) -> float:
        """Duration of all parts so far in seconds."""
        return self.past_seconds + time.perf_counter() - self._start

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"started_at": self.started_at, "past_seconds": self.seconds}
