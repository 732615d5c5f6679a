"""Dataclasses for ``training_state.json``, the JSON part of a checkpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from xft.errors import CheckpointError

STATE_FILE = "training_state.json"
TENSORS_FILE = "training_state.safetensors"


@dataclass(frozen=True)
class RunState:
    """The position and the settings of a run at a step.

    Attributes:
        step: optimizer steps taken.
        tokens_seen: tokens in the batches of these steps.
        stop_reason: reason for an early stop; ``None`` if the run did not stop early.
        data_fingerprint: digest of the samples and the batch shape.
        batching: batch shape and world size; see ``TrainingPlan``.
        config: settings that must be the same in a resumed run.
        hooks: state of each hook by name.
        loggers: position of each logger by class name.
    """

    step: int
    tokens_seen: int
    stop_reason: str | None
    data_fingerprint: str
    batching: dict[str, Any]
    config: dict[str, Any]
    hooks: dict[str, Any]
    loggers: dict[str, Any]


@dataclass(frozen=True)
class ResumeState(RunState):
    """The content of ``training_state.json`` of a checkpoint.

    Attributes:
        folder: the checkpoint.
        training: flattened state of optimizer, scheduler and random number generators.
        shards: for each rank, ``(offset, numel)`` of its shard of each sharded tensor.
    """

    folder: Path
    training: object
    shards: Sequence[Mapping[str, Sequence[int]]]

    @property
    def best_step(self) -> int | None:
        """Step with the best validation metric so far."""
        step = self.hooks.get("checkpoint", {}).get("best_step")
        return step if isinstance(step, int) else None


_KEYS = [field.name for field in fields(ResumeState) if field.name != "folder"]


def read_resume_state(folder: Path) -> ResumeState:
    """Read ``training_state.json`` of a checkpoint.

    Raises:
        CheckpointError: the file is corrupt, or was written by an incompatible version of xft.
    """
    path = folder / STATE_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"got {content!r:.60}")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is corrupt ({error})", key=str(path)) from error
    if missing := [key for key in _KEYS if key not in content]:
        raise CheckpointError(
            f"{path} has no {', '.join(missing)}: the checkpoint was written by another version of xft and cannot be "
            "resumed; start a new run from its weights",
            key=str(path),
            got=sorted(content),
            expected=", ".join(_KEYS),
        )
    return ResumeState(folder=folder, **{key: content[key] for key in _KEYS})
