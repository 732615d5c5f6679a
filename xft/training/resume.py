"""What a resumed run may have otherwise than its checkpoint, and what it may not."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from xft.compat.mmengine import Hook
from xft.errors import ConfigError
from xft.run_config.config import Training
from xft.training.hooks import EarlyStoppingHook

FREE_TO_CHANGE = ("hooks", "loggers", "questions", "work_dir", "strategy")
"""Keys of a config that a resumed run may have otherwise. ``training.epochs`` and ``training.max_steps``
are two more, and ``FREE_IN_DATA`` says which of a data set."""
FREE_IN_DATA = ("path", "num_workers", "cache_dir")
"""Where the rows lie and how they are prepared may change; that they are the same rows, the
fingerprint says."""
FREE = ", ".join(
    [*FREE_TO_CHANGE, *(f"data.{each}" for each in FREE_IN_DATA), "training.epochs and training.max_steps"]
)
"""All of them, in words."""


def fixed(config: Any) -> dict[str, Any]:
    """What must stay as it is in a resumed run, as JSON has it."""
    values = {key: value for key, value in config.to_dict().items() if key not in FREE_TO_CHANGE}
    values["data"] = _fixed_data(values["data"])
    training = values.get("training", {})
    values["training"] = {key: each for key, each in training.items() if key not in ("epochs", "max_steps")}
    plain: dict[str, Any] = json.loads(json.dumps(values, default=_name))
    return plain


def _name(value: Any) -> str:
    """An object of a config as text. What ``str`` says of a function is another in every process."""
    name = getattr(value, "__qualname__", None)
    return str(value) if name is None else f"{value.__module__}.{name}"


def _fixed_data(data: dict[str, Any]) -> dict[str, Any]:
    kept = {key: each for key, each in data.items() if key not in FREE_IN_DATA}
    if isinstance(kept.get("datasets"), dict):
        kept["datasets"] = {name: _fixed_data(each) for name, each in kept["datasets"].items()}
    return kept


def stop_reason(state: Mapping[str, Any], hooks: Iterable[Hook]) -> str | None:
    """Why a run that is gone on with had ended before its last step; ``None`` where it had not.

    Args:
        state: of its checkpoint.
        hooks: of the run that goes on. Where they are more patient than those before, it goes on.
    """
    reason: str | None = state.get("stop_reason")
    stopped = state["hooks"].get("early_stopping", {})
    if reason is None or stopped.get("reason") != reason:
        return reason
    still = [each for each in hooks if isinstance(each, EarlyStoppingHook) and each.is_over(stopped)]
    return reason if still else None


def refit(
    training: Training, pack_length: int, portions: Mapping[str, Any], world_size: int
) -> tuple[Training, int, list[str]]:
    """Fit a run to a checkpoint of another number of ranks: a step stays what it was.

    Args:
        training: of the config.
        pack_length: tokens in a packed row, of the config.
        portions: of the checkpoint; see ``TrainingPlan.portions``.
        world_size: ranks of the run that goes on.

    Returns:
        Training and length to plan with, and what changed, a line each.

    Raises:
        ConfigError: the micro-batches of a step cannot be dealt out to so many ranks.
    """
    before, window = portions["world_size"], portions["window"]
    if before == world_size:
        return training, pack_length, []
    if window % world_size:
        fits = [each for each in range(1, window + 1) if window % each == 0]
        raise ConfigError(
            f"--resume: a step of the run is {window} micro-batches, which {world_size} ranks cannot share evenly; "
            f"go on with {', '.join(map(str, fits[:-1]))}{' or ' if fits[:-1] else ''}{fits[-1]} ranks"
        )
    accumulation = window // world_size
    lines = [
        f"the run began on {_count(before)} and goes on with {world_size}: accumulation "
        f"{window // before} → {accumulation}, so that a step stays what it was"
    ]
    fewer, more = sorted((before, world_size))
    others = f"rank {fewer}" if more == fewer + 1 else f"ranks {fewer} to {more - 1}"
    fate = "begin with the seed" if world_size > before else "are let go"
    lines.append(f"the random numbers of {others} {fate}")
    fitted = replace(
        training,
        gradient_accumulation_steps=accumulation,
        micro_batch_size=portions["batch_size"],
        min_steps_per_epoch=0,
    )
    return fitted, portions["capacity"] or pack_length, lines


def _count(ranks: int) -> str:
    return f"{ranks} rank{'s' if ranks > 1 else ''}"


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """What changed between two configs: ``optimizer.lr was 0.01, is 0.001``."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            line
            for key in sorted({*before, *after})
            for line in differences(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if before == after else [f"{path} was {before!r}, is {after!r}"]
