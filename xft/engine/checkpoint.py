"""Checkpoints: ``checkpoints/step_N``, with links ``last`` and ``best``.

A checkpoint is a saved model (see ``xft.models.artifact``) and beside it the state of the
training: optimizer, schedule, random numbers of every rank. It is written under a temporary
name, flushed, and renamed, so that a folder called ``step_N`` is whole. Reading one runs no
pickled code: tensors and plain values only.
"""

import json
import os
import pickle
import random
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from xft.errors import CheckpointError

if TYPE_CHECKING:
    from xft.engine.strategies import SingleDevice

STATE = "training_state.pt"
EXTRA = "training_state.json"
_STEP = re.compile(r"^step_(\d+)$")


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
    """The steps of all checkpoints of a run, in order."""
    root = folder_of(work_dir)
    if not root.is_dir():
        return []
    return sorted(int(match.group(1)) for each in root.iterdir() if (match := _STEP.match(each.name)))


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that ``--resume`` means: a checkpoint, or the newest of a run folder.

    Raises:
        CheckpointError: there is none.
    """
    if (path / EXTRA).is_file():
        return path.resolve()
    steps = saved_steps(path)
    if not steps:
        raise CheckpointError(
            f"--resume: {path} has no checkpoint; give a run folder or a checkpoint, or start without --resume"
        )
    last = folder_of(path) / "last"
    return last.resolve() if (last / EXTRA).is_file() else folder_of(path) / f"step_{steps[-1]}"


def publish(temporary: Path, final: Path) -> None:
    """Give a finished folder its name, with everything in it on the disk first."""
    for each in sorted(temporary.rglob("*")):
        if each.is_file():
            _flush(each)
    _flush(temporary)
    aside = final.with_name(f".{final.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if final.exists():
        os.rename(final, aside)
    os.rename(temporary, final)
    _flush(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def link(folder: Path, name: str) -> None:
    """Point the link ``name`` beside a checkpoint at it, in one step."""
    temporary = folder.parent / f".{name}.new"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    os.replace(temporary, folder.parent / name)


def save_training_state(folder: Path, strategy: "SingleDevice", extra: dict[str, Any]) -> None:
    """Write this rank's state, and on the first rank what they share."""
    torch.save({"random": random_state()}, folder / f"random_{strategy.rank}.pt")
    if strategy.rank == 0:
        state = {
            "optimizer": strategy.optimizer.state_dict(),
            "schedule": strategy.schedule.state_dict(),
        }
        torch.save(state, folder / STATE)
        (folder / EXTRA).write_text(json.dumps(extra, indent=2) + "\n", encoding="utf-8")


def read_extra(folder: Path) -> dict[str, Any]:
    """What the runner remembered in a checkpoint.

    Raises:
        CheckpointError: the file is broken.
    """
    try:
        extra = json.loads((folder / EXTRA).read_text(encoding="utf-8"))
        if not (isinstance(extra, dict) and {"step", "tokens_seen", "hooks"} <= extra.keys()):
            raise ValueError(f"got {extra!r:.60}")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / EXTRA}: broken ({error})") from error
    return extra


def load_training_state(folder: Path, strategy: "SingleDevice") -> dict[str, Any]:
    """Read back weights, optimizer, schedule and random numbers.

    Raises:
        CheckpointError: the checkpoint is broken, or belongs to another model.
    """
    from xft.engine.strategies import unwrap

    extra = read_extra(folder)
    try:
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        own = folder / f"random_{strategy.rank}.pt"
        random_numbers = torch.load(own, weights_only=True)["random"] if own.is_file() else None
        inner: Any = unwrap(strategy.model)
        load_weights_into(inner.model, folder)
        strategy.optimizer.load_state_dict(state["optimizer"])
        strategy.schedule.load_state_dict(state["schedule"])
        _set_rate(strategy)
    except _BROKEN as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder}: cannot be resumed from ({first})") from error
    if random_numbers is not None:
        set_random_state(random_numbers)
    return extra


_BROKEN = (
    OSError,
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    EOFError,
    AttributeError,
    SafetensorError,
    pickle.UnpicklingError,
)
"""What the readers of a broken file raise."""


def _set_rate(strategy: "SingleDevice") -> None:
    """Put the learning rate where the schedule of this run has it. It is not that of the checkpoint
    when the run has been made longer."""
    schedule: Any = strategy.schedule
    rates = [
        base * rate(schedule.last_epoch)
        for base, rate in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(strategy.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


def load_weights_into(model: nn.Module, folder: Path) -> None:
    """Put the weights of a checkpoint into a model of the same shape.

    Raises:
        CheckpointError: names do not match.
        RuntimeError: shapes do not.
    """
    if isinstance(model, PeftModel):
        result = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        wrong = list(result.unexpected_keys)
    else:
        weights: dict[str, torch.Tensor] = {}
        for file in sorted(folder.glob("model*.safetensors")):
            weights |= load_file(file)
        if not weights:
            raise CheckpointError(f"{folder}: holds no weights of a whole model")
        missing, unexpected = model.load_state_dict(weights, strict=False)
        tied = set(getattr(model, "all_tied_weights_keys", {}) or {})
        wrong = [*(each for each in missing if each not in tied), *unexpected]
    if wrong:
        raise CheckpointError(
            f"{folder}: belongs to another model ({len(wrong)} names such as {wrong[0]!r})"
        )


def random_state() -> dict[str, Any]:
    """The state of every generator of random numbers, as tensors and plain values."""
    numpy_state: Any = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [
            numpy_state[0],
            torch.from_numpy(np.asarray(numpy_state[1]).astype(np.int64)),
            *(each for each in numpy_state[2:]),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what ``random_state`` gave."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
