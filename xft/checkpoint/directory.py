"""The folders of checkpoints: ``checkpoints/step_N``, with links ``last`` and ``best``.

A folder called ``step_N`` is whole: it was written under a temporary name, sealed with a
manifest, read back, and renamed. What has a name that begins with a dot was left by a kill.
"""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xft.checkpoint import manifest
from xft.checkpoint.snapshot import STATE, TENSORS, read_state
from xft.errors import CheckpointError
from xft.utils import console

LAST, BEST = "last", "best"
SUPERSEDED = "superseded"
"""Where checkpoints go that a run parted from: damaged ones, and those of a future that it left."""
_STEP = re.compile(r"^step_(\d+)$")
_LEFT_BY_A_KILL = re.compile(
    r"^\.step_\d+\.(tmp|trash|\d+\.shards)$|^\.(last|best)\.tmp$|^\.final(-.*|\.trash)$"
)


def folder_of(work_dir: Path) -> Path:
    """Where the checkpoints of a run are."""
    return work_dir / "checkpoints"


def step_of(folder: Path) -> int:
    """The step of a checkpoint's folder.

    Raises:
        CheckpointError: it is not called ``step_N``.
    """
    match = _STEP.match(folder.resolve().name)
    if match is None:
        raise CheckpointError(f"{folder}: is no checkpoint, expected a folder called step_N")
    return int(match.group(1))


def saved_steps(work_dir: Path) -> list[int]:
    """The steps of all checkpoints of a run, in order, damaged ones included."""
    return _steps(folder_of(work_dir))


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that ``--resume`` means: a checkpoint, or the newest good one of a run folder.

    Newer ones that are damaged are passed over, with a line for each.

    Raises:
        CheckpointError: there is none, or the one that was named is damaged.
    """
    folder = path.resolve()
    if _STEP.match(folder.name) and folder.is_dir():
        if wrong := damage(folder):
            raise CheckpointError(
                f"--resume: {path} is damaged: {wrong}; give the run folder, to go on from the newest good one"
            )
        return folder
    steps = saved_steps(path)
    if not steps:
        raise CheckpointError(
            f"--resume: {path} has no checkpoint; give a run folder or a checkpoint, or start without --resume"
        )
    for step in reversed(steps):
        folder = folder_of(path) / f"step_{step}"
        wrong = damage(folder)
        if wrong is None:
            return folder
        console.info(f"warning: step_{step} is damaged and passed over: {wrong}")
    raise CheckpointError(f"--resume: {path} has no good checkpoint; all {len(steps)} of them are damaged")


def damage(folder: Path, unread: Iterable[str] = ()) -> str | None:
    """What is wrong with a checkpoint, or ``None``. Every file of it is read, but those of ``unread``."""
    return manifest.damage(folder, (STATE, TENSORS), unread)


def publish(temporary: Path, final: Path) -> None:
    """Give a finished folder, whose files are on the disk, its name."""
    aside = final.with_name(f".{final.name}.trash")
    if aside.exists():
        shutil.rmtree(aside)
    if final.exists():
        os.rename(final, aside)
    os.rename(temporary, final)
    manifest.flush(final.parent)
    if aside.exists():
        shutil.rmtree(aside)


def link(folder: Path, name: str) -> None:
    """Point the link ``name`` beside a checkpoint at it, in one step."""
    temporary = folder.parent / f".{name}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    os.replace(temporary, folder.parent / name)


def prune(root: Path, keep: int) -> None:
    """Remove all checkpoints but the ``keep`` newest and those that a link points at."""
    linked = {os.readlink(root / name) for name in (LAST, BEST) if (root / name).is_symlink()}
    for step in _steps(root)[:-keep]:
        name = f"step_{step}"
        if name not in linked:
            # Half of a folder must not have the name of a whole one.
            gone = root / f".{name}.trash"
            os.rename(root / name, gone)
            shutil.rmtree(gone)


def tidy(work_dir: Path, resumed: Path | None) -> None:
    """Bring a run folder in order before the run goes on: what a kill left half done is taken
    away, what is newer than the checkpoint that the run goes on from is set aside, and the links
    point at what is there.

    Args:
        work_dir: the run folder.
        resumed: the checkpoint that the run goes on from, here or elsewhere.
    """
    root = folder_of(work_dir)
    for each in sorted([*work_dir.iterdir(), *root.iterdir()]):
        if _LEFT_BY_A_KILL.match(each.name):
            _remove(each)
    if resumed is None or resumed.parent.resolve() != root.resolve():
        return
    for step in _steps(root):
        if step > step_of(resumed):
            where = set_aside(root / f"step_{step}")
            console.info(
                f"note: step_{step} is not of this run's past any more, and was moved to "
                f"{where.parent.parent.name}/{where.parent.name}"
            )
    link(resumed, LAST)
    best = root / f"step_{best_step(read_state(resumed))}"
    if best.is_dir():
        link(best, BEST)
    else:
        (root / BEST).unlink(missing_ok=True)
    manifest.flush(root)


def best_step(state: dict[str, Any]) -> int | None:
    """The step with the best validation so far, as the state of a checkpoint says."""
    kept = state["hooks"].get("checkpoint", {})
    step = kept.get("best_step")
    return step if isinstance(step, int) else None


def set_aside(folder: Path) -> Path:
    """Move a checkpoint out of the way, in place of an earlier one of that step. Returns where it is."""
    where = folder.parent.parent / SUPERSEDED / folder.name
    where.parent.mkdir(exist_ok=True)
    if where.exists():
        shutil.rmtree(where)
    os.rename(folder, where)
    return where


def _steps(root: Path) -> list[int]:
    if not root.is_dir():
        return []
    return sorted(int(match.group(1)) for each in root.iterdir() if (match := _STEP.match(each.name)))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
