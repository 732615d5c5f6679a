"""Run scripts in forks of one process that has imported everything, on one rank or on several.

To import torch, transformers and DeepSpeed takes 12 seconds of a core, and a tiny run takes less. The first test that
needs the server starts it; all xdist workers use the same one. It ends with the test session.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers import fork_server
from helpers.fork_server import FOLDER, SESSION

ROOT = Path(__file__).resolve().parents[2]


def torchrun(ranks: int) -> list[str]:
    """The launcher itself, for tests of what it does."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]


def run_on_ranks(
    ranks: int, script: Path, *arguments: str, paths: tuple[Path, ...] = (), timeout: int = 300
) -> subprocess.CompletedProcess[str]:
    """Run a script on several ranks, with one thread each. ``paths`` are searched for modules too."""
    import torch

    if torch.cuda.device_count():  # a fork of a process that has looked for a GPU cannot use it
        searched = ":".join(map(str, (ROOT, ROOT / "tests", *paths)))
        return subprocess.run(
            [*torchrun(ranks), str(script), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": searched},
            timeout=timeout,
            check=False,
        )
    process = ForkedProcess(script, *arguments, ranks=ranks, paths=paths)
    stdout, stderr = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess([str(script), *arguments], process.returncode, stdout, stderr)


class ForkedProcess:
    """A script in one fork of the server, or on several ranks, with the interface of ``subprocess.Popen``.

    Args:
        script: Python script.
        arguments: its arguments.
        ranks: number of ranks; 0 runs one process without a launcher's environment.
        paths: further folders that are searched for modules.

    Attributes:
        pids: process ids of the ranks.
        returncode: exit code, or the negative signal of a single process; ``None`` while it runs.
    """

    def __init__(self, script: Path, *arguments: str, ranks: int = 0, paths: tuple[Path, ...] = ()) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="forked-", dir=os.environ[FOLDER]))
        for name in ("stdout", "stderr"):
            (self._folder / name).touch()
        self._connection = _connect()
        request = {
            "script": str(script),
            "arguments": arguments,
            "ranks": ranks,
            "paths": [str(path) for path in (ROOT, ROOT / "tests", *paths)],
            "cwd": os.getcwd(),
            "environment": {**os.environ, "OMP_NUM_THREADS": "1"},
            "output": str(self._folder),
        }
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self._replies = self._connection.makefile("rb", buffering=0)  # select sees what is not read yet
        self.pids: list[int] = json.loads(self._replies.readline())
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        """Process id of the first rank."""
        return self.pids[0]

    @property
    def stdout(self) -> str:
        """The output so far."""
        return (self._folder / "stdout").read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        """The error stream so far."""
        return (self._folder / "stderr").read_text(encoding="utf-8", errors="replace")

    def poll(self) -> int | None:
        """Return the exit code if the process has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code.

        Args:
            timeout: in seconds; ``None`` waits without a limit.

        Raises:
            TimeoutExpired: the process runs on after ``timeout`` seconds.
        """
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                assert timeout is not None
                raise subprocess.TimeoutExpired("forked process", timeout)
            self.returncode = int(self._replies.readline() or -signal.SIGKILL)
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the end and return both streams; kill the process after ``timeout`` seconds."""
        try:
            self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        return self.stdout, self.stderr

    def send_signal(self, number: int) -> None:
        """Send a signal to each rank."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Kill each rank."""
        self.send_signal(signal.SIGKILL)


def fork_code(folder: Path, code: str, *arguments: str) -> ForkedProcess:
    """Write code into ``folder`` as ``script.py``, and start it in a fork."""
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    return ForkedProcess(script, *arguments)


def start_verification(command: list[str], **_: Any) -> ForkedProcess:
    """Start a verification, as the ``Popen`` of :mod:`xft.export.verify.launcher` does in a new interpreter."""
    *_, code, folder = command
    return fork_code(Path(folder), code, folder)


@contextlib.contextmanager
def fork_server_folder() -> Iterator[None]:
    """Set the environment with which this process and its xdist workers find one server."""
    with tempfile.TemporaryDirectory(prefix="xft-forks-", ignore_cleanup_errors=True) as folder:
        os.environ |= {FOLDER: folder, SESSION: str(os.getpid())}
        yield


def _connect() -> socket.socket:
    """Connect to the server; start it if no other worker has."""
    folder = Path(os.environ[FOLDER])
    connection = socket.socket(socket.AF_UNIX)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "socket").exists():
            _start(folder)
    connection.connect(str(folder / "socket"))
    return connection


def _start(folder: Path) -> None:
    searched = f"{ROOT}:{ROOT / 'tests'}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, fork_server.__file__],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": searched},
            start_new_session=True,
        )
    deadline = time.monotonic() + 300
    while not (folder / "socket").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the fork server has not started: {(folder / 'log').read_text()}")
        time.sleep(0.05)
