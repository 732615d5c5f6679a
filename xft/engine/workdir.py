"""The run folder: which it is, whether it is free, and its log file."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xft import console
from xft.engine.checkpoint import find_checkpoint
from xft.errors import ConfigError, XftError

_LOGGERS = ("xft", "xft.runner")
MARKS = ("config.py", "metrics.jsonl", "checkpoints", "final")
"""What a folder holds that a run has used."""


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
        rank: only the first looks whether the folder is free; it makes it before the others come.

    Raises:
        ConfigError: the folder holds a run already, or cannot be written.
        CheckpointError: there is nothing to resume from.
    """
    default = Path("runs") / Path(config).stem
    if resume is not None:
        checkpoint = find_checkpoint(Path(resume or wanted or default))
        folder = Path(wanted) if wanted is not None else checkpoint.parent.parent
        return folder.absolute(), checkpoint
    if rank != 0:
        return Path(wanted or default).absolute(), None
    if wanted is None:
        folder, number = default, 2
        while is_taken(folder):
            folder, number = default.with_name(f"{default.name}-{number}"), number + 1
    else:
        folder = Path(wanted)
        if is_taken(folder):
            raise ConfigError(
                f"--work-dir: {wanted} holds a run already; --resume goes on with it, or choose another folder"
            )
    _check_writable(folder.absolute())
    return folder.absolute(), None


def is_taken(folder: Path) -> bool:
    """Whether a run has used the folder."""
    return any((folder / each).exists() for each in MARKS)


@contextmanager
def claim(folder: Path, rank: int, resumed: bool) -> Iterator[None]:
    """Make the folder; take it away again when what stands under ``with`` fails for a reason that
    the user can mend, so that the next try finds it free.

    Raises:
        ConfigError: it cannot be made, or another run took it meanwhile.
    """
    if rank != 0:
        yield
        return
    if not resumed and is_taken(folder):
        raise ConfigError(f"--work-dir: {folder} was taken by another run meanwhile")
    existed = folder.exists()
    try:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--work-dir: cannot make {folder} ({error.strerror})") from error
    try:
        yield
    except XftError:
        if not existed:
            stop_logging()
            shutil.rmtree(folder)
        raise


def log_to(folder: Path, rank: int) -> None:
    """Keep the lines of this run in ``train.log``."""
    if rank != 0:
        return
    stop_logging()
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
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
