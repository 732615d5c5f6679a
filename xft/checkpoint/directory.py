"""Checkpoint directories of a run: ``checkpoints/step_N``, with the symlinks ``last`` and ``best``.

A folder named ``step_N`` is complete: its files were written under a temporary name, listed in a manifest
and read back before the folder was renamed. Names that begin with a dot belong to a save in progress, or
are left from a killed process.
"""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from xft.checkpoint import manifest
from xft.checkpoint.resume_state import STATE_FILE, TENSORS_FILE, ResumeState
from xft.errors import CheckpointError
from xft.utils import console
from xft.utils.paths import fsync_path

LAST, BEST = "last", "best"
SUPERSEDED = "superseded"
"""Subfolder for replaced checkpoints: those newer than the checkpoint being resumed (corrupt ones included), and those
that were saved again."""
_STEP = re.compile(r"^step_(\d+)$")
_STALE_TEMP = re.compile(
    r"^\.step_\d+\.(tmp|trash|\d+\.shards)$|^\.(last|best)\.tmp$|^\.final(-.*|\.trash)$"
)


def checkpoints_dir(run_dir: Path) -> Path:
    """Return the checkpoint directory of a run."""
    return run_dir / "checkpoints"


def saved_steps(run_dir: Path) -> list[int]:
    """Return the steps of all checkpoints of a run in ascending order, corrupt ones included."""
    return _steps(checkpoints_dir(run_dir))


def find_checkpoint(path: Path) -> Path:
    """Resolve the argument of ``--resume``: a checkpoint, or a run folder for its newest intact checkpoint.

    Corrupt newer checkpoints are skipped with one log line each.

    Raises:
        CheckpointError: there is no checkpoint, or the named one is corrupt.
    """
    folder = path.resolve()
    if _STEP.match(folder.name) and folder.is_dir():
        if problem := corruption_of(folder):
            raise CheckpointError(
                f"--resume: {path} is corrupt: {problem}. Give the run folder to resume from its newest intact "
                "checkpoint",
                key="--resume",
                got=str(path),
            )
        return folder
    steps = saved_steps(path)
    if not steps:
        raise CheckpointError(
            f"--resume: {path} has no checkpoint; give a run folder or a checkpoint, or start without --resume",
            key="--resume",
            got=str(path),
        )
    for step in reversed(steps):
        folder = checkpoints_dir(path) / f"step_{step}"
        problem = corruption_of(folder)
        if problem is None:
            return folder
        console.info(f"warning: skipping corrupt checkpoint step_{step}: {problem}")
    raise CheckpointError(
        f"--resume: {path} has no intact checkpoint; all {len(steps)} are corrupt",
        key="--resume",
        got=str(path),
    )


def corruption_of(folder: Path, skip: Iterable[str] = ()) -> str | None:
    """Check a checkpoint against its manifest; return the first problem or ``None``.

    Every file is read, except those in ``skip``.
    """
    return manifest.find_corruption(folder, (STATE_FILE, TENSORS_FILE), skip)


def replace_folder(temporary: Path, final: Path) -> None:
    """Rename a finished, fsynced folder to its final name, replacing the folder of that name.

    Not atomic: the replacement takes two renames, and between them no folder has the final name. A run that is killed
    there writes ``final/`` again when it is resumed.
    """
    trash = final.with_name(f".{final.name}.trash")
    if trash.exists():
        shutil.rmtree(trash)
    if final.exists():
        os.rename(final, trash)
    os.rename(temporary, final)
    fsync_path(final.parent)
    if trash.exists():
        shutil.rmtree(trash)


def update_symlink(folder: Path, name: str) -> None:
    """Point the symlink ``name`` in the folder of a checkpoint at it, atomically."""
    temporary = folder.parent / f".{name}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    os.replace(temporary, folder.parent / name)


def prune(root: Path, save_total_limit: int) -> None:
    """Remove all checkpoints except the ``save_total_limit`` newest and the targets of the symlinks."""
    linked = {os.readlink(root / name) for name in (LAST, BEST) if (root / name).is_symlink()}
    for step in _steps(root)[:-save_total_limit]:
        name = f"step_{step}"
        if name not in linked:
            # Rename first: a partly removed folder must not have the name of a complete checkpoint.
            trash = root / f".{name}.trash"
            os.rename(root / name, trash)
            shutil.rmtree(trash)


def clean_up(run_dir: Path, resume_state: ResumeState | None) -> None:
    """Prepare a run folder for a run: remove stale temporary files, move checkpoints that are newer than the resumed one
    to ``superseded/``, and update the symlinks.

    Args:
        run_dir: the run folder.
        resume_state: state of the checkpoint being resumed, which may be in another run folder.
    """
    root = checkpoints_dir(run_dir)
    for path in sorted([*run_dir.iterdir(), *root.iterdir()]):
        if _STALE_TEMP.match(path.name):
            _remove(path)
    if resume_state is None or resume_state.folder.parent.resolve() != root.resolve():
        return
    for step in _steps(root):
        if step > resume_state.step:
            target = move_to_superseded(root / f"step_{step}")
            console.info(
                f"note: step_{step} is newer than the checkpoint being resumed; moved to "
                f"{target.parent.parent.name}/{target.parent.name}"
            )
    update_symlink(resume_state.folder, LAST)
    best = root / f"step_{resume_state.best_step}"
    if best.is_dir():
        update_symlink(best, BEST)
    else:
        (root / BEST).unlink(missing_ok=True)
    fsync_path(root)


def move_to_superseded(folder: Path) -> Path:
    """Move a checkpoint to ``superseded/``, replacing one of the same step there; return the new path."""
    target = folder.parent.parent / SUPERSEDED / folder.name
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        shutil.rmtree(target)
    os.rename(folder, target)
    return target


def _steps(root: Path) -> list[int]:
    if not root.is_dir():
        return []
    return sorted(int(match.group(1)) for path in root.iterdir() if (match := _STEP.match(path.name)))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
