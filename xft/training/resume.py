"""Config keys that may and may not change between a checkpoint and the run that resumes it."""

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from xft.checkpoint.resume_state import ResumeState
from xft.errors import CheckpointError, ConfigError
from xft.run_config.config import TrainingConfig

RESUMABLE_KEYS = ("hooks", "loggers", "eval_prompts", "work_dir", "strategy")
"""Top-level keys that may change."""
RESUMABLE_TRAINING_KEYS = ("epochs", "max_steps")
"""Keys of ``training`` that may change."""
RESUMABLE_DATA_KEYS = ("path", "num_workers", "cache_dir")
"""Keys of a data set that may change: the fingerprint proves that the rows are the same."""
RESUMABLE_ROLLOUT_KEYS = ("engine",)
"""Keys of ``rollout`` that may change: a server may have moved."""
RESUMABLE = ", ".join(
    [
        *RESUMABLE_KEYS,
        *(f"data.{key}" for key in RESUMABLE_DATA_KEYS),
        *(f"training.{key}" for key in RESUMABLE_TRAINING_KEYS),
        *(f"rollout.{key}" for key in RESUMABLE_ROLLOUT_KEYS),
    ]
)
"""All of them, for messages."""


def check_resumable(state: ResumeState, config: Any, fingerprint: str) -> None:
    """Check that a run is that of a checkpoint.

    Args:
        state: state of the checkpoint.
        config: config of the run, plain or of MMEngine.
        fingerprint: digest of its samples and batch shape.

    Raises:
        CheckpointError: the checkpoint belongs to another config or data.
    """
    same_data = state.data_fingerprint == fingerprint
    # With another world size, the same step takes a different number of accumulated micro-batches.
    if changes := [
        change
        for change in diff_configs(state.config, frozen_config(config))
        if not (same_data and change.startswith("training.gradient_accumulation_steps "))
    ]:
        raise CheckpointError(
            f"{state.folder}: the config differs from that of the checkpoint ({'; '.join(changes)}); only "
            f"{RESUMABLE} may change",
            key="--resume",
            got=changes,
            expected=RESUMABLE,
        )
    if not same_data:
        raise CheckpointError(
            f"{state.folder}: the data or the batch shape differs from that of the checkpoint, so the position in "
            "the data is unknown; start a new run with model.path or an adapter, or restore data and training",
            key="--resume",
            got=fingerprint,
            expected=state.data_fingerprint,
        )


def frozen_config(config: Any) -> dict[str, Any]:
    """Return the part of a config, plain or of MMEngine, that a resumed run must share, as JSON values."""
    values = _without(config if isinstance(config, Mapping) else config.to_dict(), RESUMABLE_KEYS)
    values["data"] = _frozen_data(values["data"])
    values["training"] = _without(values.get("training", {}), RESUMABLE_TRAINING_KEYS)
    if rollout := _without(values.pop("rollout", {}), RESUMABLE_ROLLOUT_KEYS):
        values["rollout"] = rollout
    frozen: dict[str, Any] = json.loads(json.dumps(values, default=_qualified_name))
    return frozen


def _without(values: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _frozen_data(data: Mapping[str, Any]) -> dict[str, Any]:
    frozen = _without(data, RESUMABLE_DATA_KEYS)
    if isinstance(frozen.get("datasets"), dict):
        parts = frozen["datasets"].items()
        frozen["datasets"] = {name: _frozen_data(part) for name, part in parts if part is not None}
    return frozen


def _qualified_name(value: object) -> str:
    """Name an object of a config. ``str`` of a function would differ in every process."""
    if inspect.isclass(value) or inspect.isroutine(value):
        return f"{value.__module__}.{value.__qualname__}"
    return str(value)


def adapt_to_world_size(
    training: TrainingConfig, pack_length: int, batching: Mapping[str, Any], world_size: int
) -> tuple[TrainingConfig, int, list[str]]:
    """Adapt gradient accumulation to a changed world size, so that each step keeps its micro-batches.

    Args:
        training: ``training`` of the config.
        pack_length: tokens in a packed row, of the config.
        batching: batch shape of the checkpoint; see ``TrainingPlan``.
        world_size: world size of the resumed run.

    Returns:
        ``training`` and packed length of the resumed run, and the changes, one line each.

    Raises:
        ConfigError: the micro-batches of a step are not divisible by the world size.
    """
    saved_world_size, window = batching["world_size"], batching["window"]
    if saved_world_size == world_size:
        return training, pack_length, []
    if window % world_size:
        divisors = [str(count) for count in range(1, window + 1) if window % count == 0]
        raise ConfigError(
            key="--resume: world size",
            got=world_size,
            expected=f"a divisor of the {window} micro-batches of a step ({', '.join(divisors)})",
        )
    accumulation = window // world_size
    lines = [
        f"world size changed from {saved_world_size} to {world_size}: gradient_accumulation_steps "
        f"{window // saved_world_size} → {accumulation} keeps the batch of each step",
        _rng_note(saved_world_size, world_size),
    ]
    adapted = replace(
        training,
        gradient_accumulation_steps=accumulation,
        micro_batch_size=batching["batch_size"],
        min_steps_per_epoch=0,
    )
    return adapted, batching["capacity"] or pack_length, lines


def _rng_note(saved_world_size: int, world_size: int) -> str:
    first, stop = sorted((saved_world_size, world_size))
    ranks = f"rank {first}" if stop == first + 1 else f"ranks {first} to {stop - 1}"
    fate = "is initialized from the seed" if world_size > saved_world_size else "is discarded"
    return f"RNG state of {ranks} {fate} (world size changed)"


def diff_configs(before: object, after: object, path: str = "") -> list[str]:
    """List the differences of two configs, such as ``optimizer.lr was 0.01, is 0.001``."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted({*before, *after})
            for line in diff_configs(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if before == after else [f"{path} was {before!r}, is {after!r}"]
