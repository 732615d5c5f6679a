"""Length of the training, optimizer and learning-rate schedulers of XTuner, as MMEngine has them."""

from collections.abc import Mapping
from typing import Any

from xft.migration.arguments import COMPUTED, Arguments
from xft.migration.python_values import Name
from xft.migration.values import count, number
from xft.migration.xtuner_data import component

_OPTIMIZERS = {
    "AdamW": "adamw",
    "PagedAdamW32bit": "paged_adamw_8bit",
    "PagedAdamW8bit": "paged_adamw_8bit",
    "PagedAdamW": "adamw",
    "AdamW8bit": "adamw_8bit",
}
_SCHEDULERS = {"CosineAnnealingLR": "cosine", "LinearLR": "linear", "ConstantLR": "constant"}
_KNOWN = frozenset(
    (
        *(
            "type",
            "by_epoch",
            "begin",
            "end",
            "convert_to_iter_based",
            "T_max",
            "start_factor",
            "end_factor",
        ),
        *("eta_min", "eta_min_ratio", "factor", "last_step", "verbose"),
    )
)


def import_training(values: Arguments, names: Mapping[str, object]) -> None:
    """Take over epochs or steps, optimizer, schedulers, precision and sequence parallelism.

    Args:
        values: the config.
        names: all names of the file, also those that only help to write it.

    Raises:
        ConfigError: a value has another type.
    """
    draft, loop = values.draft, values.section("train_cfg")
    epochs = loop.take("training.epochs", number, "max_epochs")
    steps = loop.take("training.max_steps", count, "max_iters")
    if epochs is None and steps is None:
        draft.change(
            loop.full_name("max_epochs"), "not known without running the config; set training.epochs"
        )
    loop.note("hooks.validation and the loop of xft decide", *loop.unread)
    wrapper = values.section("optim_wrapper")
    rate = _optimizer(wrapper.section("optimizer"))
    if wrapper.take("training.gradient_accumulation_steps", count, "accumulative_counts") is None:
        draft.default(wrapper.full_name("accumulative_counts"), "training.gradient_accumulation_steps", 1)
    clip = wrapper.section("clip_grad")
    clip.take("training.max_grad_norm", number, "max_norm")
    draft.default(clip.full_name("max_norm"), "training.max_grad_norm", None, "gradients are not clipped")
    _precision(wrapper)
    wrapper.note("gradients are in the type of the weights", "loss_scale", "use_fp16")
    _schedule(values, rate, epochs)
    size = names.get("sequence_parallel_size")
    values.pop("sequence_parallel_size")
    if isinstance(size, int) and size > 1:
        kept = draft.get("strategy") or {}
        strategy = {**kept, "type": "ddp", "sequence_parallel_size": size}
        draft.take("sequence_parallel_size", "strategy", strategy)
    elif "sequence_parallel_size" in draft.keys:
        draft.note("sequence_parallel_size", "1: no parallelism over the sequence")


def _optimizer(optimizer: Arguments) -> float:
    """Take over the optimizer. Returns its learning rate."""
    draft, key = optimizer.draft, optimizer.full_name("type")
    name = component(optimizer.pop("type"))
    kind = _OPTIMIZERS.get(name)
    if kind is not None and "32bit" not in name:
        draft.take(key, "optimizer.type", kind)
    elif kind is not None:
        draft.change(key, f"{name}: {kind}, whose state has 8 bits", "optimizer.type", kind)
    elif name == "DeepSpeedCPUAdam":
        draft.change(
            key, "adamw; strategy.offload keeps its state in host memory", "optimizer.type", "adamw"
        )
    elif name:
        draft.change(key, f"{name} is not in xft: adamw; compare learning rates", "optimizer.type", "adamw")
    else:
        draft.change(key, "not known without running the config: adamw", "optimizer.type", "adamw")
    rate = optimizer.take("optimizer.lr", number, "lr")
    optimizer.take("optimizer.weight_decay", number, "weight_decay")
    optimizer.take("optimizer.betas", _betas, "betas")
    optimizer.take("optimizer.eps", number, "eps")
    if name == "AdamW":
        draft.default(optimizer.full_name("lr"), "optimizer.lr", 1e-3)
        draft.default(optimizer.full_name("weight_decay"), "optimizer.weight_decay", 0.01)
    optimizer.miss("the optimizer has no such value", *optimizer.unread)
    return float(draft.get("optimizer.lr") if rate is None else rate) if draft.has("optimizer.lr") else 0.0


def _betas(value: object) -> list[float]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("two numbers")
    return [number(item) for item in value]


def _precision(wrapper: Arguments) -> None:
    """Weights of a full training are in fp32 under autocast; an adapter needs none."""
    draft, key = wrapper.draft, wrapper.full_name("type")
    kind = component(wrapper.pop("type"))
    wrapper.note("bf16 where the hardware has it", "dtype")
    if draft.get("adapter") is not None or draft.get("model.train.language") == "frozen":
        draft.note(key, "trained modules are in fp32 beside frozen weights, and need no autocast")
        return
    draft.take(key, "model.dtype", "float32", "weights and optimizer state")
    if kind in ("", "AmpOptimWrapper", "DeepSpeedOptimWrapper"):
        strategy = {"type": "single_device", **(draft.get("strategy") or {}), "mixed_precision": "bf16"}
        draft.take(key, "strategy", strategy, "matrix products")


def _schedule(values: Arguments, rate: float, epochs: float | None) -> None:
    """Take over the warm-up and the decay of the learning rate."""
    draft, given = values.draft, values.pop("param_scheduler")
    parts = given if isinstance(given, list) else [] if given is None else [given]
    if any(isinstance(part, Name) for part in parts):
        draft.miss("param_scheduler", COMPUTED)
        return
    schedulers = [part for part in parts if isinstance(part, dict)]
    warmup = next((part for part in schedulers if _is_warmup(part)), None)
    rest = [part for part in schedulers if part is not warmup]
    if not rest:
        draft.default("param_scheduler", "lr_scheduler.type", "constant", "the learning rate stays")
    else:
        _decay(values, rest, rate)
    if warmup is None:
        draft.default("param_scheduler", "lr_scheduler.warmup_steps", 0, "no warm-up")
    else:
        _warmup(values, warmup, epochs)
    unknown = sorted({f"param_scheduler.{key}" for part in schedulers for key in part if key not in _KNOWN})
    if unknown:
        draft.miss(tuple(unknown), "the scheduler has no such value")


def _is_warmup(part: Mapping[str, Any]) -> bool:
    start, end = part.get("start_factor", 1 / 3), part.get("end_factor", 1.0)
    is_rising = isinstance(start, (int, float)) and isinstance(end, (int, float)) and start < end
    return component(part.get("type")) == "LinearLR" and is_rising


def _decay(values: Arguments, parts: list[Any], rate: float) -> None:
    draft, part = values.draft, parts[0]
    name = component(part.get("type"))
    kind = _SCHEDULERS.get(name)
    if kind is None:
        draft.change("param_scheduler", f"{name} is not in xft: cosine", "lr_scheduler.type", "cosine")
    elif kind == "constant" and part.get("factor", 1 / 3) != 1:
        how = "ConstantLR: a constant learning rate, without its factor"
        draft.change("param_scheduler", how, "lr_scheduler.type", kind)
    elif kind == "linear" and part.get("end_factor", 1.0) != 0:
        how = "LinearLR: the learning rate decays to 0"
        draft.change("param_scheduler", how, "lr_scheduler.type", kind)
    else:
        draft.take("param_scheduler", "lr_scheduler.type", kind)
    if len(parts) > 1:
        others = ", ".join(component(other.get("type")) for other in parts[1:])
        draft.change("param_scheduler", f"one decay: {others} is left out")
    ratio, end = part.get("eta_min_ratio"), part.get("eta_min")
    if kind == "cosine" and (ratio or (end and rate)):
        value = values.convert(number, "param_scheduler", ratio or number(end) / rate)
        draft.take("param_scheduler", "lr_scheduler.min_lr_ratio", value)


def _warmup(values: Arguments, part: Mapping[str, Any], epochs: float | None) -> None:
    draft, end = values.draft, part.get("end")
    if not isinstance(end, (int, float)):
        draft.change(
            "param_scheduler",
            "the warm-up is not known without running the config; set lr_scheduler.warmup_ratio",
        )
    elif part.get("by_epoch", True) and epochs:
        draft.take("param_scheduler", "lr_scheduler.warmup_ratio", end / epochs)
    elif part.get("by_epoch", True):
        draft.change(
            "param_scheduler", "a warm-up in epochs needs their number; set lr_scheduler.warmup_ratio"
        )
    else:
        draft.take("param_scheduler", "lr_scheduler.warmup_steps", round(end))
