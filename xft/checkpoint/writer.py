"""Write checkpoints in a background thread, from the snapshot that the main thread has copied.

At most one save is in progress. A failed save does not end training: the main thread polls the result
after the next step.
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
from typing import Protocol

from xft.checkpoint import directory, manifest
from xft.checkpoint.shards import CheckpointShard, remove_stale_shards
from xft.checkpoint.snapshot import Snapshot
from xft.errors import CheckpointError, ConfigError
from xft.utils.console import format_bytes
from xft.utils.paths import fsync_path

DISK_MARGIN = 1.05
"""Factor by which the size of the tensors is multiplied, to account for file headers and disk blocks."""
WRITER_NICENESS = 10
"""Niceness of the writer thread, from 0 (normal) to 19 (lowest priority)."""


@dataclass(frozen=True)
class SaveResult:
    """Result of a save.

    Attributes:
        step: step of the snapshot.
        error: the failure; ``None`` if the checkpoint is complete.
    """

    step: int
    error: Exception | None = None

    @property
    def reason(self) -> str:
        """First line of the error."""
        return str(self.error).strip().partition("\n")[0] or type(self.error).__name__


class WriteRequest(Protocol):
    """Work for the writer thread."""

    @property
    def step(self) -> int:
        """Step of the checkpoint."""

    def run(self, cancelled: threading.Event) -> None:
        """Write to disk. Does not rename a checkpoint into place once ``cancelled`` is set."""


@dataclass(frozen=True)
class SaveRequest:
    """Request of rank 0 to write a checkpoint.

    Attributes:
        snapshot: the copied training run.
        root: the checkpoint directory.
        save_total_limit: number of newest checkpoints to keep.
        is_best: whether to point the symlink ``best`` at this checkpoint.
        before_write: called in the thread before anything is written; if it raises, the save fails.
    """

    snapshot: Snapshot
    root: Path
    save_total_limit: int
    is_best: bool
    before_write: Callable[[], None]

    @property
    def step(self) -> int:
        """Step of the checkpoint."""
        return self.snapshot.step

    def run(self, cancelled: threading.Event) -> None:
        """Write the checkpoint."""
        write_checkpoint(self, cancelled)


@dataclass(frozen=True)
class ShardSaveRequest:
    """Request of a rank other than 0 to write its shard; rank 0 reports the result of the save.

    Attributes:
        shard: the shard.
        root: the checkpoint directory.
        step: step of the checkpoint.
    """

    shard: CheckpointShard
    root: Path
    step: int

    def run(self, cancelled: threading.Event) -> None:
        """Write the shard."""
        self.shard.write(self.root)


_CANCELLED: list[threading.Thread] = []
"""Writer threads of cancelled saves."""


def _exit_without_join() -> None:
    """Exit immediately if the thread of a cancelled save is still running.

    Interpreter shutdown can stop such a thread at any point. Inside torch code, that aborts the process.
    Saves are cancelled only after a second Ctrl-C.
    """
    if any(thread.is_alive() for thread in _CANCELLED):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + signal.SIGINT)


# Handlers run in reverse order of registration, so loggers have finished by then.
atexit.register(_exit_without_join)


class AsyncCheckpointWriter:
    """Write one checkpoint at a time in a thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._results: list[SaveResult] = []
        self._cancelled = threading.Event()

    def start(self, request: WriteRequest) -> None:
        """Start to write in a thread. Waits for a save in progress."""
        self.wait()
        # A daemon thread, so that a process that must exit immediately does not wait for it.
        self._thread = threading.Thread(
            target=self._run, args=(request,), name="xft-checkpoint-writer", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Wait for the save in progress."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def cancel(self) -> None:
        """Cancel the save in progress. Nothing is renamed into place and the thread is not joined."""
        self._cancelled.set()
        if self._thread is not None:
            _CANCELLED.append(self._thread)

    def poll(self) -> SaveResult | None:
        """Return the result of the oldest finished save that has not been returned before, if any."""
        return self._results.pop(0) if self._results else None

    def _run(self, request: WriteRequest) -> None:
        if sys.platform == "linux":
            # Niceness is per thread on Linux: training has priority if cores are scarce.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), WRITER_NICENESS)
        try:
            request.run(self._cancelled)
            self._results.append(SaveResult(request.step))
        except Exception as error:  # noqa: BLE001 - the main thread reports it and retries
            self._results.append(SaveResult(request.step, error))


def write_checkpoint(request: SaveRequest, cancelled: threading.Event | None = None) -> Path:
    """Write and verify a checkpoint, rename it into place, and remove old checkpoints.

    Returns:
        The folder of the checkpoint.

    Raises:
        CheckpointError: there is too little disk space, the content read back from the disk differs, another rank did
            not write its shard, or the save was cancelled.
        OSError, SafetensorError: a file cannot be written to disk.
    """
    root, shard = request.root, request.snapshot.shard
    final = root / f"step_{request.step}"
    temporary = root / f".{final.name}.tmp"
    if temporary.exists():
        shutil.rmtree(temporary)
    remove_stale_shards(root, shard)
    try:
        request.before_write()
        check_disk_space(root, request.snapshot.total_bytes)
        temporary.mkdir(parents=True)
        verified, weights = {}, None
        if shard is not None:
            shard.write(root)
            verified, weights = shard.collect(root, temporary), shard.open_weights(root)
        request.snapshot.write(temporary, weights)
        if shard is not None:
            shard.remove(root)
        manifest.write_manifest(temporary, verified)
        if problem := directory.corruption_of(temporary, verified):
            raise CheckpointError(
                f"the content read back from the disk differs from the content written: {problem}",
                key=final.name,
                got=problem,
            )
        if cancelled is not None and cancelled.is_set():
            raise CheckpointError("the save was cancelled", key=final.name)
    except BaseException:
        # A partial checkpoint would use the disk space that the next attempt needs.
        shutil.rmtree(temporary, ignore_errors=True)
        if shard is not None:
            shard.remove(root)
        raise
    _rename_into_place(temporary, final, request)
    return final


def _rename_into_place(temporary: Path, final: Path, request: SaveRequest) -> None:
    """Rename a verified checkpoint into place, update the symlinks, and remove old checkpoints."""
    root = request.root
    if final.exists():
        directory.move_to_superseded(final)
    os.rename(temporary, final)
    fsync_path(root)
    directory.update_symlink(final, directory.LAST)
    if request.is_best:
        directory.update_symlink(final, directory.BEST)
    fsync_path(root)
    directory.prune(root, request.save_total_limit)


def check_disk_space(root: Path, num_bytes: int) -> None:
    """Check that there is enough disk space for one checkpoint.

    Raises:
        CheckpointError: there is too little disk space.
    """
    free = shutil.disk_usage(root).free
    if free < num_bytes * DISK_MARGIN:
        raise CheckpointError(
            f"{format_bytes(num_bytes * DISK_MARGIN)} are needed, and {format_bytes(free)} are free on the disk",
            key=str(root),
            got=free,
            expected=f"{format_bytes(num_bytes * DISK_MARGIN)} free",
        )


def check_disk_space_for_run(root: Path, num_bytes: int, save_total_limit: int) -> None:
    """Check that there is enough disk space for all checkpoints of a run.

    The best checkpoint and the one being written need space in addition to the ``save_total_limit`` newest.

    Args:
        root: the checkpoint directory; the space that its files use counts as free.
        num_bytes: size of one checkpoint.
        save_total_limit: number of newest checkpoints to keep.

    Raises:
        ConfigError: there is too little disk space.
    """
    used = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    available = shutil.disk_usage(root).free + used
    if available < num_bytes * DISK_MARGIN * (save_total_limit + 2):
        raise ConfigError(
            f"hooks.checkpoint: a checkpoint takes about {format_bytes(num_bytes)}, and save_total_limit={save_total_limit} "
            f"needs disk space for {save_total_limit + 2}; the disk of {root} has {format_bytes(available)}. Free some, "
            "choose another --work-dir, or set hooks.checkpoint.save_total_limit=1 or "
            "hooks.checkpoint.save_optimizer_state=False",
            key="hooks.checkpoint",
            got=available,
            expected=f"disk space for {save_total_limit + 2} checkpoints",
        )
