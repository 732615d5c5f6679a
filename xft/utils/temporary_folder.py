"""Temporary folders next to their final place. The next one for that place removes those of killed processes."""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".tmp"


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Create a folder on the disk of ``target``, to be renamed to it, or to hold files that are. Removed at the end.

    A lock on the folder ends with the process: a folder that is not locked is stale. On file systems that lock no
    folders, such as NFS, stale folders stay.

    Args:
        target: final path; its parent exists.

    Raises:
        OSError: the folder cannot be created.
    """
    with _locked(target.parent) as is_locked:
        if is_locked:
            _remove_stale(target)
        folder = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-", suffix=_SUFFIX))
        lock = os.open(folder, os.O_RDONLY)
        _lock(lock, block=False)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def create_once(folder: Path, marker: str, write: Callable[[Path], None]) -> None:
    """Write a folder and rename it into place. If another process is faster, its folder stays.

    Args:
        folder: the folder; its parents are created.
        marker: file of a complete folder.
        write: writes the files into a temporary folder.

    Raises:
        OSError: the folder cannot be created.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder) as partial:
        write(partial)
        try:
            os.rename(partial, folder)
        except OSError:
            # Another process finished first, with the same files.
            if not (folder / marker).is_file():
                raise


def _remove_stale(target: Path) -> None:
    pattern = re.compile(re.escape(f".{target.name}-") + r"\w{8}" + re.escape(_SUFFIX))
    for path in target.parent.iterdir():
        if pattern.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            try:
                with _locked(path, block=False) as is_locked:
                    if is_locked:
                        shutil.rmtree(path, ignore_errors=True)
            except OSError:
                continue  # of a running process, or of another user


@contextmanager
def _locked(folder: Path, block: bool = True) -> Iterator[bool]:
    """Lock a folder against other processes; yield whether the file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield _lock(descriptor, block)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, block: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if block else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
