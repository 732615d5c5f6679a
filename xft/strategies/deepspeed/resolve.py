"""Fill in the ``"auto"`` values of a DeepSpeed JSON config, and compare the others with the xft config.

A value that contradicts the xft config is an error.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from xft.errors import ConfigError
from xft.models import TrainingModel
from xft.models.model_options import transformers_config
from xft.models.param_shapes import num_params
from xft.strategies.batching import Batching
from xft.strategies.deepspeed.config import AUTO, stage_of

_MISSING = object()
_SCHEDULER_SHAPES = {"WarmupLR": 1.0, "WarmupDecayLR": 0.75, "WarmupCosineLR": 0.8536}
"""DeepSpeed's schedulers, and their learning rate divided by the peak after a quarter of the decay."""
_UNSUPPORTED = {
    "pipeline": "pipeline parallelism",
    "tensor_parallel": "tensor parallelism",
    "amp": "apex",
    "curriculum_learning": "curriculum learning",
    "data_efficiency": "DeepSpeed's sampler",
    "sparse_gradients": "sparse gradients",
    "compression_training": "compression",
}
"""Sections that change the training itself, which only the xft config may do."""


@dataclass(frozen=True)
class AutoValues:
    """Facts about a run that determine ``"auto"`` values.

    Attributes:
        world_size: number of ranks.
        batching: shape of an optimizer step.
        optimizer: class name under ``type``, and hyperparameters of the first group.
        warmup_steps: optimizer steps until the learning rate reaches its peak.
        quarter_decay: learning rate divided by the peak after a quarter of the decay.
        dtype: dtype of the trainable parameters, without ``torch.``.
        num_trainable: number of trainable parameters.
        hidden_size: width of the model.
    """

    world_size: int
    batching: Batching
    optimizer: Mapping[str, Any]
    warmup_steps: int
    quarter_decay: float
    dtype: str
    num_trainable: int
    hidden_size: int


@dataclass(frozen=True)
class ResolvedConfig:
    """JSON config without ``"auto"``.

    Attributes:
        values: config for ``deepspeed.initialize``.
        filled: replaced ``"auto"`` values by dotted key.
    """

    values: dict[str, Any]
    filled: dict[str, Any]


def auto_values(
    model: TrainingModel,
    optimizer: torch.optim.Optimizer,
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
    batching: Batching,
    world_size: int,
) -> AutoValues:
    """Collect the facts about a run."""
    group = optimizer.param_groups[0]
    hyperparameters: dict[str, Any] = {
        key: group[key] for key in ("betas", "eps", "weight_decay") if key in group
    }
    hyperparameters["lr"] = group.get("initial_lr", group["lr"])
    factor = lr_scheduler.lr_lambdas[0]  # type: ignore[attr-defined]
    steps = batching.num_steps
    warmup = next((step for step in range(steps) if factor(step) >= 1), 0)
    trainable = [param for param in model.parameters() if param.requires_grad]
    return AutoValues(
        world_size=world_size,
        batching=batching,
        optimizer={"type": type(optimizer).__name__, **hyperparameters},
        warmup_steps=warmup,
        quarter_decay=factor(warmup + (steps - warmup) // 4),
        dtype=str(trainable[0].dtype).removeprefix("torch."),
        num_trainable=sum(num_params(param) for param in trainable),
        hidden_size=int(transformers_config(model.model).get_text_config().hidden_size),
    )


def resolve(values: Mapping[str, Any], auto: AutoValues, where: str) -> ResolvedConfig:
    """Fill in a JSON config, and compare it with the xft config.

    Args:
        values: JSON config as written.
        auto: facts about the run.
        where: name of the JSON config, for messages.

    Raises:
        ConfigError: contradictions and unsupported sections, all of them, one line each.
    """
    full: dict[str, Any] = copy.deepcopy(dict(values))
    filled: dict[str, Any] = {}
    mistakes = [
        f"{key}: {name} is not supported; remove it" for key, name in _UNSUPPORTED.items() if full.get(key)
    ]
    for key, expected, source, is_required in _derived_values(auto, stage_of(full)):
        value = _get(full, key)
        if value == AUTO:
            filled[key] = expected
            _set(full, key, expected)
        elif is_required and value is not _MISSING and not _is_equal(value, expected):
            mistakes.append(f"{key}: got {value!r}; expected {expected!r} from {source}")
    mistakes += [f"{key}: 'auto' is not supported here" for key in _auto_keys(full)]
    if mistakes:
        count = f"{len(mistakes)} contradictions" if len(mistakes) > 1 else "1 contradiction"
        raise ConfigError(
            f"strategy: {where}: {count}\n"
            + "\n".join(f"  {mistake}" for mistake in mistakes)
            + "\n  set the values in the xft config, and write 'auto' here",
            key="strategy.config_file",
            got=mistakes,
        )
    return ResolvedConfig(_finalize(full, auto), filled)


def _derived_values(auto: AutoValues, stage: int) -> Iterator[tuple[str, Any, str, bool]]:
    """Yield dotted key, value, source of the value, and whether other values are errors."""
    batching = auto.batching
    micro, accumulation = batching.micro_batch_size, batching.gradient_accumulation_steps
    yield "train_micro_batch_size_per_gpu", micro, "training.micro_batch_size", True
    yield "gradient_accumulation_steps", accumulation, "training.gradient_accumulation_steps", True
    yield "train_batch_size", micro * accumulation * auto.world_size, f"{auto.world_size} ranks", True
    yield "gradient_clipping", float(batching.max_grad_norm or 0), "training.max_grad_norm", True
    # Stage 0 shards nothing and behaves as a single device, without fp32 master weights.
    is_bf16 = auto.dtype == "bfloat16" and stage > 0
    yield "bf16.enabled", is_bf16, f"a model in {auto.dtype} under stage {stage}", True
    yield "fp16.enabled", False, f"a model in {auto.dtype} without loss scaling", True
    yield "torch_autocast.enabled", False, "strategy.mixed_precision, which xft applies", True
    yield "gradient_allreduce_op", "mean", "xft, which weights by target tokens", True
    yield "prescale_gradients", False, "xft, which weights by target tokens", True
    yield "gradient_predivide_factor", 1.0, "xft, which weights by target tokens", True
    yield "managed_gradient_accumulation", False, "xft, which accumulates by itself", True
    yield "optimizer.type", auto.optimizer["type"], "optimizer", True
    for name, value in auto.optimizer.items():
        if name != "type":
            yield f"optimizer.params.{name}", value, f"optimizer.{name}", True
    peak = auto.optimizer.get("lr")
    kind = min(_SCHEDULER_SHAPES, key=lambda name: abs(_SCHEDULER_SHAPES[name] - auto.quarter_decay))
    yield "scheduler.type", kind, "lr_scheduler", True
    yield "scheduler.params.total_num_steps", batching.num_steps, "training", True
    yield "scheduler.params.warmup_num_steps", auto.warmup_steps, "lr_scheduler.warmup_steps", True
    yield "scheduler.params.warmup_max_lr", peak, "optimizer.lr", True
    yield "scheduler.params.warmup_min_lr", 0, "lr_scheduler", True
    zero = "zero_optimization"
    # A bucket larger than all gradients together would waste memory.
    yield f"{zero}.reduce_bucket_size", max(1, min(auto.num_trainable, 200_000_000)), "", False
    yield f"{zero}.allgather_bucket_size", max(1, min(auto.num_trainable, 200_000_000)), "", False
    if stage == 3:
        yield f"{zero}.stage3_prefetch_bucket_size", int(0.9 * auto.hidden_size**2), "", False
        yield f"{zero}.stage3_param_persistence_threshold", 10 * auto.hidden_size, "", False


def _finalize(full: dict[str, Any], auto: AutoValues) -> dict[str, Any]:
    """Return the config for DeepSpeed, without optimizer, scheduler and accumulation, which xft runs itself."""
    ours = ("optimizer", "scheduler", "train_batch_size", "gradient_accumulation_steps")
    values = {key: value for key, value in full.items() if key not in ours}
    values["train_micro_batch_size_per_gpu"] = auto.batching.micro_batch_size
    values["gradient_accumulation_steps"] = 1
    values["managed_gradient_accumulation"] = False
    values["gradient_clipping"] = float(auto.batching.max_grad_norm or 0)
    values["zero_allow_untested_optimizer"] = True
    values["zero_force_ds_cpu_optimizer"] = False
    values.setdefault("steps_per_print", None)
    if auto.dtype == "bfloat16" and stage_of(full) > 0:
        # Without the check, DeepSpeed would apply a gradient with NaN or infinity.
        values["bf16"] = {**values.get("bf16", {}), "enabled": True, "check_grad_overflow": True}
    return values


def _is_equal(value: object, expected: object) -> bool:
    if isinstance(value, str) and isinstance(expected, str):
        return value.lower() == expected.lower()
    if isinstance(expected, (list, tuple)):
        return isinstance(value, (list, tuple)) and list(value) == list(expected)
    if isinstance(value, bool) != isinstance(expected, bool):
        return False
    return bool(value == expected)


def _get(values: object, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return _MISSING
        values = values[part]
    return values


def _set(values: dict[str, Any], key: str, value: object) -> None:
    *path, last = key.split(".")
    for part in path:
        values = values[part]
    values[last] = list(value) if isinstance(value, tuple) else value


def _auto_keys(values: object, path: str = "") -> Iterator[str]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _auto_keys(value, f"{path}.{key}" if path else str(key))
    elif values == AUTO:
        yield path
