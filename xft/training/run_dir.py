"""Choice, lock and log file of the run folder."""

import fcntl
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from xft.checkpoint.directory import BEST, LAST, checkpoints_dir, clean_up, find_checkpoint, saved_steps
from xft.checkpoint.resume_state import ResumeState
from xft.errors import ConfigError
from xft.utils import console, paths

_LOGGERS = ("xft", "xft.runner")
RUN_FILES = (
    "config.py",
    "metrics.jsonl",
    "generations.jsonl",
    "rollouts.jsonl",
    "data_report.json",
    "quarantine.jsonl",
    "train.log",
    "checkpoints",
    "final",
)
"""Files and folders that a run writes; a folder with one of them is in use."""
LOCK = ".lock"
LINKED_BY_LIBRARIES = ("wandb",)
"""Folders of a run in which a library makes links of its own."""
AUTO = "auto"
"""``--resume auto``: resume from a checkpoint if there is one, otherwise start."""


def choose_work_dir(
    config: str, requested: str | None, resume: str | None, rank: int = 0
) -> tuple[Path, Path | None]:
    """Choose the run folder, and the checkpoint to resume from.

    The default is ``runs/NAME_OF_THE_CONFIG``, or if that is in use, the first free of ``-2``, ``-3`` ….

    Args:
        config: the config file.
        requested: folder of the command line or the config.
        resume: see ``TrainOptions``.
        rank: only rank 0 inspects the folder, and broadcasts the result.

    Raises:
        ConfigError: the folder holds a run already, or cannot be written.
        CheckpointError: there is no valid checkpoint.
    """
    default = Path("runs") / Path(config).stem
    if rank != 0:
        return Path(requested or default).absolute(), None
    if resume == AUTO:
        return _resume_or_create(Path(requested or default))
    if resume is not None:
        return _choose_resumed(Path(resume or requested or default), requested)
    if not requested:
        folder, number = default, 2
        while is_in_use(folder):
            folder, number = default.with_name(f"{default.name}-{number}"), number + 1
    else:
        folder = Path(requested)
        if is_in_use(folder):
            way = "--resume continues it" if saved_steps(folder) else "it saved no checkpoint: delete it"
            raise ConfigError(
                f"--work-dir: {requested} holds a run already; {way}, or choose another folder"
            )
    paths.check_creatable(folder.absolute(), "--work-dir")
    return folder.absolute(), None


def _choose_resumed(path: Path, requested: str | None) -> tuple[Path, Path]:
    checkpoint = find_checkpoint(path).absolute()
    run = checkpoint.parent.parent
    folder = Path(requested).absolute() if requested is not None else run
    if folder.resolve() != run.resolve() and is_in_use(folder):
        raise ConfigError(
            f"--work-dir: {requested} holds another run than the one of {checkpoint}; choose a folder that is free"
        )
    return folder, checkpoint


def _resume_or_create(folder: Path) -> tuple[Path, Path | None]:
    """Resume or start: a scheduler restarts a run with its first command."""
    if saved_steps(folder):
        return folder.absolute(), find_checkpoint(folder).absolute()
    if (folder / "final").exists():
        raise ConfigError(f"--resume auto: the run in {folder} is done, and kept no checkpoint")
    if is_in_use(folder):
        console.info(f"note: no checkpoint in {folder}; starting from scratch")
    paths.check_creatable(folder.absolute(), "--work-dir")
    return folder.absolute(), None


def is_in_use(folder: Path) -> bool:
    """Return whether a run has used the folder."""
    return any((folder / name).exists() for name in RUN_FILES)


@contextmanager
def lock_run_dir(
    folder: Path, rank: int, resumed: bool, resume_state: ResumeState | None = None
) -> Iterator[None]:
    """Create the run folder and lock it against other runs. Leftovers of a killed run are cleaned up first.

    If the body of a new run fails before its first checkpoint, the folder is removed.

    Args:
        folder: the run folder.
        rank: only rank 0 locks the folder.
        resumed: whether the folder may hold a run.
        resume_state: state of the checkpoint being resumed.

    Raises:
        ConfigError: the folder cannot be created, another run is active in it, or it has links that lead elsewhere.
    """
    if rank != 0:
        yield
        return
    existed = folder.exists()
    root = checkpoints_dir(folder)
    # A run that is killed between creating a link and renaming it leaves the temporary link.
    links = [root / name for link in (LAST, BEST) for name in (link, f".{link}.tmp")]
    paths.check_no_links(folder, [*links, *(folder / name for name in LINKED_BY_LIBRARIES)])
    if not resumed and is_in_use(folder):
        raise ConfigError(f"--work-dir: {folder} was taken by another run meanwhile")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "w", encoding="utf-8", opener=paths.no_follow)  # noqa: SIM115
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
    """Append to the log, and drop lines while the disk is full."""

    def _open(self) -> TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", opener=paths.no_follow)

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore errors of the disk only."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def add_file_handler(folder: Path) -> None:
    """Write the log lines of this run to ``train.log``."""
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
        for old in [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]:
            logger.removeHandler(old)
            old.close()
