"""A fresh process that looks at a saved model, while this one does something else."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import xft
from xft.errors import CheckpointError
from xft.export.verify_worker import NO_MEMORY, Found, Wanted, read_found, write_wanted

LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What makes a process one of several ranks. The fresh one stands alone."""
START = """\
import gc, pathlib, sys
gc.disable()  # to import makes no garbage
from xft.export.verify_worker import main
gc.enable()
sys.exit(main(pathlib.Path(sys.argv[1])))
"""


class NotLookedAt(CheckpointError):
    """The fresh process was ended from outside, so nothing is known of the saved model."""


class FreshProcess:
    """Loads a saved model in a Python of its own, which shares nothing with this one but files.

    Args:
        wanted: what it looks at.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.path = wanted.path
        self._folder = Path(tempfile.mkdtemp(prefix="xft-verify-"))
        write_wanted(wanted, self._folder)
        self._errors = (self._folder / "errors.txt").open("wb")
        # A session of its own: Ctrl-C in the terminal is for the training, which ends this process.
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            env=_environment(),
            start_new_session=True,
        )

    def is_done(self) -> bool:
        """Whether ``result`` returns at once."""
        return self._process.poll() is not None

    def result(self, timeout: float) -> Found:
        """What it found. Waits for it.

        Args:
            timeout: seconds to wait at most.

        Raises:
            CheckpointError: it could not open the saved model.
            NotLookedAt: it was killed, or took too long.
        """
        try:
            code = self._process.wait(timeout)
            if code < 0 or code == NO_MEMORY:
                end = f"was killed by signal {-code}" if code < 0 else "ran out of memory"
                raise NotLookedAt(
                    f"{self.path}: the process that verifies it {end}; it needs room for a second model"
                )
            if code:
                raise CheckpointError(
                    f"{self.path}: cannot be opened in a fresh process ({self._last_line()})"
                )
            return read_found(self._folder)
        except subprocess.TimeoutExpired as error:
            raise NotLookedAt(
                f"{self.path}: could not be verified within {timeout:.0f} seconds; raise "
                "hooks.verify.timeout_minutes"
            ) from error
        finally:
            self.end()

    def end(self) -> None:
        """End it, whatever it is at, and clean up."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _last_line(self) -> str:
        text = (self._folder / "errors.txt").read_text(encoding="utf-8", errors="replace")
        return (text.strip().splitlines() or ["it said nothing"])[-1]


def _environment() -> dict[str, str]:
    """That of this process, with this package in reach, and without what a launcher added."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in LAUNCHED and not name.startswith("TORCHELASTIC_")
    }
    roots = [str(Path(xft.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(roots)}
