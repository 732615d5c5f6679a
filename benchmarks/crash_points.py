"""Kill a run at a chosen call: the child process of ``benchmarks/crash_soak_test.py``.

Functions of xft and ``os`` are wrapped from outside. Each wrapper writes the current phase into shared memory, counts
its calls, and at the target call kills the process, immediately or after a delay.
"""

import json
import mmap
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

PHASES = (
    "start",
    "data",
    "model",
    "sampling",
    "step",
    "between steps",
    "validation",
    "questions",
    "copying",
    "saving",
    "end",
)
"""Phases of a run; their index is written into shared memory. ``copying`` is the part of a save that blocks training;
``saving`` is the work of the writer thread."""


@dataclass(frozen=True)
class Aim:
    """Moment of a kill.

    Attributes:
        point: a key of ``Points.counts``.
        call: number of the call, from 1.
        delay: seconds after the start of the call.
    """

    point: str
    call: int
    delay: float = 0.0


@dataclass
class Points:
    """Count the calls of a run, and kill it at the target call.

    Attributes:
        shared: byte 0 is the phase of the main thread, byte 1 the phase of the writer thread or 0.
        aim: moment of the kill; ``None`` disables it.
        counts: calls of each point.
        seconds: time spent in each point.
    """

    shared: mmap.mmap
    aim: Aim | None = None
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def install(self) -> None:
        """Wrap the functions."""
        from xft.checkpoint import writer
        from xft.checkpoint.checkpointer import Checkpointer
        from xft.data.config.base import DatasetConfig
        from xft.models import CausalLMConfig
        from xft.rollouts import engines
        from xft.strategies import SingleDevice
        from xft.training.hooks import sample_generation, validation
        from xft.training.runner import Runner

        places: tuple[tuple[Any, str, str], ...] = (
            (DatasetConfig, "prepare", "data"),
            (CausalLMConfig, "load", "model"),
            (engines, "sample_completions", "sampling"),
            (SingleDevice, "forward_backward", "step"),
            (SingleDevice, "step", "step"),
            (validation, "evaluate", "validation"),
            (sample_generation, "generate_answers", "questions"),
            (Checkpointer, "snapshot_run", "copying"),
            (writer, "write_checkpoint", "saving"),
            (Runner, "write_final", "end"),
        )
        for where, name, phase in places:
            setattr(where, name, self._wrap(getattr(where, name), phase, phase))
        for name in ("fsync", "rename", "replace", "symlink", "unlink", "rmdir"):
            setattr(os, name, self._wrap(getattr(os, name), name, None))

    def write(self, path: Path) -> None:
        """Write counts and seconds as JSON."""
        path.write_text(json.dumps({"counts": self.counts, "seconds": self.seconds}))

    def _wrap(self, function: Callable[..., Any], point: str, phase: str | None) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            number = self.counts[point] = self.counts.get(point, 0) + 1
            place = 1 if phase == "saving" else 0
            before = self.shared[place]
            if phase is not None:
                self.shared[place] = PHASES.index(phase)
            if self.aim is not None and (self.aim.point, self.aim.call) == (point, number):
                _kill(self.aim.delay)
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[point] = self.seconds.get(point, 0) + time.perf_counter() - begun
                self.shared[place] = PHASES.index("between steps") if phase == "step" else before

        return wrapper


def _kill(delay: float) -> None:
    if delay == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
