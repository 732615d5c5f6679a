"""The JSON of DeepSpeed: made from a config, or read, filled in and compared with the config.

A value ``"auto"`` is filled in. A value that says otherwise than the config is refused, for which
of the two is meant nobody can know.
"""

import copy
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xft.errors import ConfigError

AUTO = "auto"
_ABSENT = object()
_SHAPES = {"WarmupLR": 1.0, "WarmupDecayLR": 0.75, "WarmupCosineLR": 0.8536}
"""DeepSpeed's schedules, and where the rate is a quarter of the way down, as a share of the highest."""
_FOREIGN = {
    "pipeline": "pipelines",
    "tensor_parallel": "tensor parallelism",
    "amp": "apex",
    "curriculum_learning": "a curriculum",
    "data_efficiency": "DeepSpeed's sampler",
    "sparse_gradients": "sparse gradients",
    "compression_training": "compression",
}
"""Sections that change what is trained, which the config alone says."""


@dataclass(frozen=True)
class Facts:
    """What a run is by its config and its model.

    Attributes:
        world_size: ranks.
        batch_size: rows in a micro-batch.
        accumulation: micro-batches on each rank in an optimizer step.
        clip: the most that the gradient's norm may be.
        optimizer: the class's name, and what its first group is stepped with.
        num_steps: optimizer steps in the whole run.
        warmup: of these, until the rate is at its highest.
        quarter: the rate a quarter of the way from there to the end, as a share of the highest.
        dtype: of the trained weights, as torch names it.
        trained: how many weights are trained.
        hidden: width of the model.
    """

    world_size: int
    batch_size: int
    accumulation: int
    clip: float | None
    optimizer: Mapping[str, Any]
    num_steps: int
    warmup: int
    quarter: float
    dtype: str
    trained: int
    hidden: int


@dataclass(frozen=True)
class Settled:
    """A JSON that nothing is left open in.

    Attributes:
        values: for DeepSpeed.
        filled: what stood ``"auto"``, by dotted key.
    """

    values: dict[str, Any]
    filled: dict[str, Any]


NAMES: dict[str, dict[str, Any]] = {
    "zero1": {"zero": 1},
    "zero2": {"zero": 2},
    "zero3": {"zero": 3},
    "zero2_offload": {"zero": 2, "offload": "optimizer"},
    "zero3_offload": {"zero": 3, "offload": "all"},
}
"""What ``--deepspeed`` takes beside a file."""


def read_option(name: str) -> dict[str, Any]:
    """What ``--deepspeed NAME|FILE`` says, as a config says it.

    Raises:
        ConfigError: it is neither one of ``NAMES`` nor a file.
    """
    if name in NAMES:
        return NAMES[name]
    if not name.endswith(".json"):
        raise ConfigError(f"--deepspeed: got {name!r}, expected {', '.join(NAMES)} or FILE.json")
    return {"json": os.path.abspath(name)}


def read_json(path: str) -> dict[str, Any]:
    """Read a DeepSpeed JSON.

    Raises:
        ConfigError: there is none, or it is broken.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--deepspeed: cannot read {path} ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"--deepspeed: {path} is broken JSON ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"--deepspeed: {path} holds a {type(values).__name__}, expected an object")
    return values


def read_asked(stage: int | None, offload: str, path: str | None) -> dict[str, Any]:
    """The JSON that a config asks for, by a stage or by a file.

    Raises:
        ConfigError: it asks for both, or the file is no JSON.
    """
    if path is None:
        return make_json(2 if stage is None else stage, offload)
    if stage is not None or offload != "none":
        raise ConfigError(
            f"strategy: got json={path!r} beside zero={stage}, offload={offload!r}; the file says both, leave them out"
        )
    return read_json(path)


def make_json(stage: int, offload: str) -> dict[str, Any]:
    """The JSON of a stage, with everything else left to be filled in.

    Args:
        stage: 0 to 3.
        offload: ``none``; ``optimizer`` keeps its state on the host; ``all`` keeps the weights there too.
    """
    zero: dict[str, Any] = {"stage": stage, "reduce_bucket_size": AUTO}
    if stage == 3:
        zero |= {"stage3_prefetch_bucket_size": AUTO, "stage3_param_persistence_threshold": AUTO}
    if offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    keys = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {**dict.fromkeys(keys, AUTO), "bf16": {"enabled": AUTO}, "zero_optimization": zero}


def stage_of(values: Mapping[str, Any]) -> int:
    """The ZeRO stage of a JSON."""
    zero = values.get("zero_optimization", {})
    stage = zero.get("stage", 0) if isinstance(zero, Mapping) else 0
    if stage not in (0, 1, 2, 3):
        raise ConfigError(f"--deepspeed: zero_optimization.stage is {stage!r}, expected 0, 1, 2 or 3")
    return int(stage)


def settle(values: Mapping[str, Any], facts: Facts, where: str) -> Settled:
    """Fill a JSON in, and compare it with the config.

    Args:
        values: as it was written.
        facts: of the run.
        where: the name of the JSON, for messages.

    Raises:
        ConfigError: it contradicts the config, or holds what xft does not do; all of it, a line each.
    """
    full: dict[str, Any] = copy.deepcopy(dict(values))
    filled: dict[str, Any] = {}
    wrong = [
        f"{key}: xft trains without {what}; take it out" for key, what in _FOREIGN.items() if full.get(key)
    ]
    for key, expected, said, must in _known(facts, stage_of(full)):
        found = _get(full, key)
        if found == AUTO:
            filled[key] = expected
            _set(full, key, expected)
        elif must and found is not _ABSENT and not _same(found, expected):
            wrong.append(f"{key}: {where} says {found!r}, {said} says {expected!r}")
    wrong += [f"{key}: 'auto' is nothing that xft fills in here" for key in _autos(full)]
    if wrong:
        count = f"{len(wrong)} contradictions" if len(wrong) > 1 else "1 contradiction"
        raise ConfigError(
            f"--deepspeed: {where}: {count}\n"
            + "\n".join(f"  {each}" for each in wrong)
            + "\n  let the config say it, and write 'auto' here"
        )
    return Settled(_for_deepspeed(full, facts), filled)


def _known(facts: Facts, stage: int) -> Iterator[tuple[str, Any, str, bool]]:
    """Dotted key, what it must be, where that is said, and whether another value is refused."""
    yield "train_micro_batch_size_per_gpu", facts.batch_size, "training.micro_batch_size", True
    yield "gradient_accumulation_steps", facts.accumulation, "training.gradient_accumulation_steps", True
    whole = facts.batch_size * facts.accumulation * facts.world_size
    yield "train_batch_size", whole, f"training on {facts.world_size} ranks", True
    yield "gradient_clipping", float(facts.clip or 0), "training.max_grad_norm", True
    # Stage 0 shards nothing: it is what one device does, without copies in full precision.
    half = facts.dtype == "bfloat16" and stage > 0
    yield "bf16.enabled", half, f"a model trained in {facts.dtype} under stage {stage}", True
    yield "fp16.enabled", False, f"a model trained in {facts.dtype} without loss scaling", True
    yield "torch_autocast.enabled", False, "strategy.autocast, which is xft's own,", True
    yield "gradient_allreduce_op", "mean", "xft, which weighs by trained tokens itself,", True
    yield "prescale_gradients", False, "xft, which weighs by trained tokens itself,", True
    yield "gradient_predivide_factor", 1.0, "xft, which weighs by trained tokens itself,", True
    yield "managed_gradient_accumulation", False, "xft, whose windows may be short,", True
    yield "optimizer.type", facts.optimizer["type"], "optimizer", True
    for name, value in facts.optimizer.items():
        if name != "type":
            yield f"optimizer.params.{name}", value, f"optimizer.{name}", True
    highest = facts.optimizer.get("lr")
    kind = min(_SHAPES, key=lambda each: abs(_SHAPES[each] - facts.quarter))
    yield "scheduler.type", kind, "lr_scheduler", True
    yield "scheduler.params.total_num_steps", facts.num_steps, "training", True
    yield "scheduler.params.warmup_num_steps", facts.warmup, "lr_scheduler.warmup_steps", True
    yield "scheduler.params.warmup_max_lr", highest, "optimizer.lr", True
    yield "scheduler.params.warmup_min_lr", 0, "lr_scheduler", True
    zero = "zero_optimization"
    # Buckets beyond what there is to reduce would be memory that nothing uses.
    yield f"{zero}.reduce_bucket_size", max(1, min(facts.trained, 200_000_000)), "", False
    yield f"{zero}.allgather_bucket_size", max(1, min(facts.trained, 200_000_000)), "", False
    if stage == 3:
        yield f"{zero}.stage3_prefetch_bucket_size", int(0.9 * facts.hidden**2), "", False
        yield f"{zero}.stage3_param_persistence_threshold", 10 * facts.hidden, "", False


def _for_deepspeed(full: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """What DeepSpeed is given. Optimizer, schedule and the windows of accumulation are xft's own."""
    own = ("optimizer", "scheduler", "train_batch_size", "gradient_accumulation_steps")
    given = {key: value for key, value in full.items() if key not in own}
    given["train_micro_batch_size_per_gpu"] = facts.batch_size
    given["gradient_accumulation_steps"] = 1
    given["managed_gradient_accumulation"] = False
    given["gradient_clipping"] = float(facts.clip or 0)
    given["zero_allow_untested_optimizer"] = True
    given["zero_force_ds_cpu_optimizer"] = False
    given.setdefault("steps_per_print", None)
    if facts.dtype == "bfloat16" and stage_of(full) > 0:
        # Without the check, a gradient that is no number would be taken for a step.
        given["bf16"] = {**given.get("bf16", {}), "enabled": True, "check_grad_overflow": True}
    return given


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, str) and isinstance(expected, str):
        return found.lower() == expected.lower()
    if isinstance(expected, (list, tuple)):
        return isinstance(found, (list, tuple)) and list(found) == list(expected)
    if isinstance(found, bool) != isinstance(expected, bool):
        return False
    return bool(found == expected)


def _get(values: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return _ABSENT
        values = values[part]
    return values


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        values = values[part]
    values[last] = list(value) if isinstance(value, tuple) else value


def _autos(values: Any, path: str = "") -> Iterator[str]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _autos(value, f"{path}.{key}" if path else str(key))
    elif values == AUTO:
        yield path
