"""The run folder: which it is, whether it is free, and its log file."""

import fcntl
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xft.checkpoint.directory import clean_up, find_checkpoint, saved_steps
from xft.checkpoint.resume_state import ResumeState
from xft.errors import ConfigError
from xft.utils import console

_LOGGERS = ("xft", "xft.runner")
MARKS = (
    "config.py",
    "metrics.jsonl",
    "generations.jsonl",
    "data_report.json",
    "quarantine.jsonl",
    "train.log",
    "checkpoints",
    "final",
)
"""What a run writes: a folder that holds one of these is not free."""
LOCK = ".lock"
AUTO = "auto"
"""``--resume auto``: go on where there is a checkpoint, and start where there is none."""


def choose_work_dir(
    config: str, wanted: str | None, resume: str | None, rank: int = 0
) -> tuple[Path, Path | None]:
    """The run folder, and the checkpoint to go on from.

    Without a wish, it is ``runs/NAME_OF_THE_CONFIG``, or, where that is taken, the first of
    ``-2``, ``-3`` … that is free.

    Args:
        config: the config file.
        wanted: by the command line or the config.
        resume: see ``TrainOptions``.
        rank: only the first looks at the folder; the others hear from it what it found.

    Raises:
        ConfigError: the folder holds a run already, or cannot be written.
        CheckpointError: there is nothing good to resume from.
    """
    default = Path("runs") / Path(config).stem
    if rank != 0:
        return Path(wanted or default).absolute(), None
    if resume == AUTO:
        return _choose_either(Path(wanted or default))
    if resume is not None:
        return _choose_resumed(Path(resume or wanted or default), wanted)
    if not wanted:
        folder, number = default, 2
        while is_taken(folder):
            folder, number = default.with_name(f"{default.name}-{number}"), number + 1
    else:
        folder = Path(wanted)
        if is_taken(folder):
            way = "--resume goes on with it" if saved_steps(folder) else "it saved no checkpoint: delete it"
            raise ConfigError(f"--work-dir: {wanted} holds a run already; {way}, or choose another folder")
    _check_writable(folder.absolute())
    return folder.absolute(), None


def _choose_resumed(path: Path, wanted: str | None) -> tuple[Path, Path]:
    checkpoint = find_checkpoint(path).absolute()
    own = checkpoint.parent.parent
    folder = Path(wanted).absolute() if wanted is not None else own
    if folder.resolve() != own.resolve() and is_taken(folder):
        raise ConfigError(
            f"--work-dir: {wanted} holds another run than the one of {checkpoint}; choose a folder that is free"
        )
    return folder, checkpoint


def _choose_either(folder: Path) -> tuple[Path, Path | None]:
    """A scheduler starts a run again with the command that it began with."""
    if saved_steps(folder):
        return folder.absolute(), find_checkpoint(folder).absolute()
    if (folder / "final").exists():
        raise ConfigError(f"--resume auto: the run in {folder} is done, and kept no checkpoint")
    if is_taken(folder):
        console.info(f"note: the run in {folder} saved no checkpoint before it was ended; it begins anew")
    _check_writable(folder.absolute())
    return folder.absolute(), None


def is_taken(folder: Path) -> bool:
    """Whether a run has used the folder."""
    return any((folder / each).exists() for each in MARKS)


@contextmanager
def claim(
    folder: Path, rank: int, resumed: bool, resume_state: ResumeState | None = None
) -> Iterator[None]:
    """Make the folder, and keep other runs out of it while what stands under ``with`` goes on. What
    a kill left half done in it is put in order first.

    Where that fails before the first checkpoint of a new run, the folder is taken away again, so
    that nothing half-written is left and the next try finds it free.

    Args:
        folder: the run folder.
        rank: only the first claims it.
        resumed: whether it may hold a run already: the one that goes on, or begins again.
        resume_state: state of the checkpoint being resumed.

    Raises:
        ConfigError: it cannot be made, or another run is in it.
    """
    if rank != 0:
        yield
        return
    existed = folder.exists()
    if not resumed and is_taken(folder):
        raise ConfigError(f"--work-dir: {folder} was taken by another run meanwhile")
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise ConfigError(f"--work-dir: cannot make {folder} ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                f"--work-dir: another run is at work in {folder}; wait for it, or stop it"
            ) from error
        clean_up(folder, resume_state)
        try:
            yield
        except Exception:
            if not existed and not resumed and not saved_steps(folder):
                stop_logging()
                shutil.rmtree(folder)
            raise


class _LogFile(logging.FileHandler):
    """A log that does without the lines that a full disk does not take: the terminal has them."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Let an error of the disk pass; any other is a fault of ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def log_to(folder: Path) -> None:
    """Keep the lines of this run in ``train.log``."""
    stop_logging()
    handler = _LogFile(folder / "train.log", encoding="utf-8")
    handler.setFormatter(console.HighlightFormatter("%(asctime)s %(message)s", color=False))
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(handler)
    console.LOGGER.setLevel(logging.INFO)


def stop_logging() -> None:
    """Close the log file of an earlier run in this process."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        for old in [each for each in logger.handlers if isinstance(each, logging.FileHandler)]:
            logger.removeHandler(old)
            old.close()


def _check_writable(folder: Path) -> None:
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise ConfigError(f"--work-dir: cannot make {folder}: {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"--work-dir: cannot make {folder}: {existing} may not be written to")
