"""Verify a saved model in a subprocess while training continues."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import xft
from xft.errors import CheckpointError
from xft.export.verify.worker import (
    EXIT_OUT_OF_MEMORY,
    VerifyRequest,
    VerifyResult,
    read_result,
    write_request,
)

LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables of a distributed launcher, removed from the subprocess."""
BOOTSTRAP = """\
import gc, pathlib, sys
gc.disable()  # imports create no garbage
from xft.export.verify.worker import main
gc.enable()
sys.exit(main(pathlib.Path(sys.argv[1])))
"""


class VerificationSkipped(CheckpointError):
    """The subprocess was killed or took too long, so the saved model is neither right nor wrong."""


class VerifySubprocess:
    """Load a saved model in a new Python process, which shares only files with this one.

    Args:
        request: the model to load and the inputs to run it on.
    """

    def __init__(self, request: VerifyRequest) -> None:
        self.path = request.path
        self._folder = Path(tempfile.mkdtemp(prefix="xft-verify-"))
        write_request(request, self._folder)
        self._log = (self._folder / "log.txt").open("wb")
        # A session of its own: Ctrl-C must reach the training process only, which ends this one.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOTSTRAP, str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=_subprocess_environment(),
            start_new_session=True,
        )

    def is_done(self) -> bool:
        """Whether the process has exited."""
        return self._process.poll() is not None

    def result(self, timeout: float) -> VerifyResult:
        """Wait for the process and return its result.

        Args:
            timeout: in seconds.

        Raises:
            CheckpointError: the saved model cannot be loaded.
            VerificationSkipped: the process was killed, or took longer than ``timeout``.
        """
        try:
            code = self._process.wait(timeout)
            if code < 0 or code == EXIT_OUT_OF_MEMORY:
                end = f"was killed by signal {-code}" if code < 0 else "ran out of memory"
                raise VerificationSkipped(
                    f"{self.path}: the verification process {end}; it needs memory for a second model",
                    key=self.path,
                    got=code,
                )
            if code:
                raise CheckpointError(
                    f"{self.path}: cannot be loaded in a new process ({self._last_line()})", key=self.path
                )
            return read_result(self._folder)
        except subprocess.TimeoutExpired as error:
            raise VerificationSkipped(
                f"{self.path}: verification took more than {timeout:.0f} s. Raise hooks.verify.timeout_minutes",
                key="hooks.verify.timeout_minutes",
                got=timeout / 60,
            ) from error
        finally:
            self.close()

    def close(self) -> None:
        """Kill the process if it runs, and remove its files."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _last_line(self) -> str:
        text = (self._folder / "log.txt").read_text(encoding="utf-8", errors="replace")
        return (text.strip().splitlines() or ["no output"])[-1]


def _subprocess_environment() -> dict[str, str]:
    """Return this process's environment with xft importable and without launcher variables."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in LAUNCHER_VARIABLES and not name.startswith("TORCHELASTIC_")
    }
    roots = [str(Path(xft.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(roots)}
