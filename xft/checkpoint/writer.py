"""Saving beside training: a thread writes what the main thread has copied.

At most one save is under way. An error in it does not end the training: the main thread hears of
it at the next step.
"""

import atexit
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xft.checkpoint import directory, manifest
from xft.checkpoint.shards import Share, sweep
from xft.checkpoint.snapshot import Snapshot
from xft.errors import CheckpointError, ConfigError
from xft.utils.console import format_bytes

SPARE = 1.05
"""How much more room than the tensors take is asked for: headers, and the blocks of the disk."""


NICE = 10
"""By how much the thread stands back: 0 not at all, 19 altogether."""


@dataclass(frozen=True)
class Saved:
    """How a save ended.

    Attributes:
        step: of the snapshot.
        error: what it failed with; ``None`` where the checkpoint is published.
    """

    step: int
    error: Exception | None = None

    @property
    def reason(self) -> str:
        """The error in one line."""
        return str(self.error).strip().partition("\n")[0] or type(self.error).__name__


@dataclass(frozen=True)
class Job:
    """What to write where.

    Attributes:
        snapshot: of the training.
        root: the folder of the checkpoints.
        keep: how many of the newest stay.
        best: whether it is the best so far.
        before: called in the thread before anything is written; what it raises fails the save.
    """

    snapshot: Snapshot
    root: Path
    keep: int
    best: bool
    before: Callable[[], None]

    @property
    def step(self) -> int:
        """Of the snapshot."""
        return self.snapshot.step

    def run(self, abandoned: threading.Event) -> None:
        """Write the checkpoint, unless it is abandoned meanwhile."""
        write_checkpoint(self, abandoned)


@dataclass(frozen=True)
class ShareJob:
    """What a rank writes that is not the first.

    Attributes:
        share: of the checkpoint.
        root: the folder of the checkpoints.
        step: of the checkpoint.
    """

    share: Share
    root: Path
    step: int

    def run(self, abandoned: threading.Event) -> None:
        """Write the share. The first rank decides what becomes of it."""
        self.share.write(self.root)


_ABANDONED: list[threading.Thread] = []
"""Threads whose work is for nothing."""


def _leave() -> None:
    """End the process where a thread that nobody waits for is at work yet.

    An interpreter that winds down stops such a thread wherever it is, and within torch's own code that aborts the whole
    process. Only a second Ctrl-C comes here.
    """
    if any(each.is_alive() for each in _ABANDONED):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + signal.SIGINT)


# What is registered first is called last, so loggers have said what they had to say.
atexit.register(_leave)


class Saver:
    """Writes one job at a time, in a thread of its own."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._done: list[Saved] = []
        self._abandoned = threading.Event()

    def start(self, job: Job | ShareJob) -> None:
        """Begin to write. Waits for the save that is under way, if there is one."""
        self.wait()
        # The thread is a daemon: a process that is told to end at once does not wait for it.
        self._thread = threading.Thread(target=self._run, args=(job,), name="xft-saver", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is under way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def abandon(self) -> None:
        """Let what is under way come to nothing: it will not be published, and the process does not wait for it."""
        self._abandoned.set()
        if self._thread is not None:
            _ABANDONED.append(self._thread)

    def take(self) -> Saved | None:
        """How a save ended that has not been asked for yet; ``None`` where there is none."""
        return self._done.pop(0) if self._done else None

    def _run(self, job: Job | ShareJob) -> None:
        if sys.platform == "linux":
            # Linux counts niceness by thread: where cores are short, training comes first.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            job.run(self._abandoned)
            self._done.append(Saved(job.step))
        except Exception as error:  # noqa: BLE001 - the main thread says it, and tries again
            self._done.append(Saved(job.step, error))


def write_checkpoint(job: Job, abandoned: threading.Event | None = None) -> Path:
    """Write a checkpoint, prove it, publish it, and remove what need not be kept any longer.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: there is too little room, what is on the disk is not what was written, or another rank
            has not written its share.
        OSError: the disk does not take it.
    """
    final = job.root / f"step_{job.snapshot.step}"
    temporary = job.root / f".{final.name}.tmp"
    share = job.snapshot.share
    if temporary.exists():
        shutil.rmtree(temporary)
    sweep(job.root, share)
    try:
        job.before()
        check_room(job.root, job.snapshot.size)
        temporary.mkdir(parents=True)
        job.snapshot.write(temporary)
        proven = {}
        if share is not None:
            share.write(job.root)
            proven = share.collect(job.root, temporary)
        manifest.seal(temporary, proven)
        if wrong := directory.damage(temporary, proven):
            raise CheckpointError(f"what the disk gives back is not what was written: {wrong}")
        if abandoned is not None and abandoned.is_set():
            raise CheckpointError("the run was ended at once")
    except BaseException:
        # Half a checkpoint would only take the room that the next try needs.
        shutil.rmtree(temporary, ignore_errors=True)
        if share is not None:
            shutil.rmtree(share.folder(job.root), ignore_errors=True)
        raise
    if final.exists():
        directory.set_aside(final)
    os.rename(temporary, final)
    manifest.flush(job.root)
    directory.link(final, directory.LAST)
    if job.best:
        directory.link(final, directory.BEST)
    manifest.flush(job.root)
    directory.prune(job.root, job.keep)
    return final


def check_room(root: Path, size: int) -> None:
    """See that a checkpoint of ``size`` bytes has room.

    Raises:
        CheckpointError: it has not.
    """
    free = shutil.disk_usage(root).free
    if free < size * SPARE:
        raise CheckpointError(
            f"{format_bytes(size * SPARE)} are needed, and {format_bytes(free)} are free on the disk"
        )


def check_free(root: Path, size: int, keep: int) -> None:
    """See that the checkpoints of a whole run have room, before it begins.

    Args:
        root: the folder of the checkpoints; what it holds already counts as room.
        size: bytes of a checkpoint.
        keep: how many stay; one more may be the best, and one is being written.

    Raises:
        ConfigError: they have not.
    """
    held = sum(each.stat().st_size for each in root.rglob("*") if each.is_file())
    free = shutil.disk_usage(root).free
    if free + held < size * SPARE * (keep + 2):
        raise ConfigError(
            f"hooks.checkpoint: a checkpoint takes about {format_bytes(size)}, and with keep_last_n={keep} there must be room "
            f"for {keep + 2}; the disk of {root} has {format_bytes(free + held)} for them. Free some, choose another "
            "--work-dir, or set hooks.checkpoint.keep_last_n=1 or hooks.checkpoint.save_optimizer_state=False"
        )
