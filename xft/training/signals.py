"""Signal handlers, which record requests until the current step ends.

SIGTERM and the first Ctrl-C (SIGINT) ask for a checkpoint and an end, SIGUSR1 (by which SLURM
warns) for a checkpoint. The second Ctrl-C ends the run immediately.
"""

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from xft.utils import console

GRACE = 1.0
"""Seconds within which a second Ctrl-C counts as the first: torchrun forwards the one that the terminal has
already sent to its workers."""


class Signals:
    """Handlers that are installed under ``with``, and replaced by the previous ones after it.

    Python installs handlers in the main thread only. In other threads, the attributes never change.

    Args:
        shared: whether a launcher sends signals to several processes.
        quiet: whether another process prints the notices.

    Attributes:
        stop_signal: the number of the signal that asks for an end; 0 if there is none.
        save_requested: whether SIGUSR1 asks for a checkpoint.
        abort: whether to end without waiting for a save in progress.
    """

    def __init__(self, shared: bool = False, quiet: bool = False) -> None:
        self.shared = shared
        self.quiet = quiet
        self.stop_signal = 0
        self.save_requested = False
        self.abort = False
        self._interrupted = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            handlers: dict[int, Callable[[int, FrameType | None], None]] = {
                signal.SIGTERM: self._terminate,
                signal.SIGINT: self._interrupt,
                signal.SIGUSR1: self._warn,
            }
            self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None stands for a handler that was not installed from Python.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        if not self.stop_signal:
            self.stop_signal = number
            self._say("asked to end: finishing this step, and saving")

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._interrupted and not (self.shared and now - self._interrupted < GRACE):
            self.abort = True
            raise KeyboardInterrupt
        if not self._interrupted:
            self._interrupted = now
            self.stop_signal = self.stop_signal or number
            self._say("interrupted: finishing this step, and saving; Ctrl-C again ends immediately")

    def _warn(self, number: int, frame: FrameType | None) -> None:
        self.save_requested = True

    def _say(self, line: str) -> None:
        if not self.quiet:
            console.signal_safe_notice(line)
