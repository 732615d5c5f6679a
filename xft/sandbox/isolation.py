"""Render chat templates in worker processes with time and memory limits.

A worker (:mod:`xft.sandbox.worker`) receives a template and its variables as a pickle, and returns one line
of JSON. The template is untrusted, so the output of the worker is never unpickled. A worker that exceeds
the time limit is killed, even during an operation that runs in C; the operating system limits its memory.
Idle workers are reused.
"""

import json
import os
import pickle
import select
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

MAX_SECONDS = 10.0
"""Time limit of a rendering."""
_START_SECONDS = 60.0
"""Time limit for the start of a worker."""
_MAX_IDLE = 4
_idle: list["_Worker"] = []
_lock = Lock()


class RenderError(Exception):
    """A template raised an error or exceeded a limit."""


class _Worker:
    """Process that renders one template at a time."""

    def __init__(self) -> None:
        self.parent = os.getpid()
        root = str(Path(__file__).resolve().parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "xft.sandbox.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])},
        )
        try:
            self.read_line(_START_SECONDS)
        except BaseException:
            self.stop()
            raise

    @property
    def is_usable(self) -> bool:
        """Whether the worker is alive and was started by this process, not inherited through a fork."""
        return self.parent == os.getpid() and self._process.poll() is None

    def ask(self, request: bytes) -> dict[str, str]:
        """Send a pickled request and return the reply.

        Raises:
            RenderError: The worker ended, or the rendering exceeds a limit.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(struct.pack("!Q", len(request)) + request)
            self._process.stdin.flush()
        except OSError as error:
            raise RenderError(f"the process that renders ended ({error})") from error
        reply: dict[str, str] = json.loads(self.read_line(MAX_SECONDS))
        return reply

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()

    def read_line(self, seconds: float) -> bytes:
        """Return the next line of the worker's output.

        Raises:
            RenderError: No line arrives within ``seconds``, or the process ended.
        """
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        line = bytearray()
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise RenderError(f"rendering takes more than {seconds:g} s")
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                raise RenderError("rendering needs too much time or memory")
            line += chunk
        return bytes(line)


def render_isolated(source: str, variables: Mapping[str, Any]) -> str:
    """Render a template in a worker process.

    Raises:
        RenderError: The template raises an error, takes too long, or needs too much memory.
    """
    request = pickle.dumps((source, dict(variables)))
    with _lock:
        usable = [worker for worker in _idle if worker.is_usable]
        _idle[:] = usable[1:]
    worker = usable[0] if usable else _Worker()
    try:
        reply = worker.ask(request)
    except BaseException:
        worker.stop()
        raise
    with _lock:
        _idle.append(worker)
        surplus = _idle[_MAX_IDLE:]
        del _idle[_MAX_IDLE:]
    for extra in surplus:
        extra.stop()
    if "error" in reply:
        raise RenderError(reply["error"])
    return reply["text"]
