"""Arguments that LLaMA-Factory, axolotl and TRL share: those of transformers, and their aliases."""

from collections.abc import Mapping
from dataclasses import dataclass

from xft.config.foreign_keys import FOREIGN_KEYS
from xft.migration.argument_tables import COPIED, IGNORED, IGNORED_PREFIXES, KEYS, SILENT
from xft.migration.arguments import OFF, Arguments
from xft.migration.distribution import import_distribution
from xft.migration.optimization import import_optimizer, import_scheduler
from xft.migration.values import label, names, number, switch, text, whole

REMOTE_CODE = "off: most models need no code of their own; model.trust_remote_code=True runs it"
VALIDATION = "all rows are trained on; data.val_split='auto' holds some out"
_TRACKERS = ("wandb", "tensorboard", "mlflow", "swanlab")
_TRACKER_KEYS = {
    "wandb_project": "wandb.project",
    "wandb_name": "wandb.name",
    "wandb_entity": "wandb.entity",
    "wandb_mode": "wandb.mode",
    "swanlab_project": "swanlab.project",
    "swanlab_run_name": "swanlab.name",
    "swanlab_experiment_name": "swanlab.name",
    "swanlab_workspace": "swanlab.workspace",
    "swanlab_mode": "swanlab.mode",
    "mlflow_tracking_uri": "mlflow.uri",
    "mlflow_experiment_name": "mlflow.project",
    "mlflow_run_name": "mlflow.name",
}
_HUB = ("hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision")


@dataclass(frozen=True)
class _Interval:
    """Keys of the steps between two checkpoints or validations.

    Attributes:
        path: key of xft.
        steps: key of the number of steps.
        strategies: keys that turn it on, by steps or epochs.
        per_epoch: key of the number per epoch.
        by_default: what xft does without a number of steps.
    """

    path: str
    steps: str
    strategies: tuple[str, ...]
    per_epoch: str
    by_default: str


_INTERVALS = (
    _Interval(
        "hooks.checkpoint.interval",
        "save_steps",
        ("save_strategy",),
        "saves_per_epoch",
        "hooks.checkpoint.interval counts steps; about five checkpoints per run by default",
    ),
    _Interval(
        "hooks.validation.interval",
        "eval_steps",
        ("eval_strategy", "evaluation_strategy"),
        "evals_per_epoch",
        "hooks.validation.interval counts steps; about five per run by default, if rows are held out (data.val_split)",
    ),
)


@dataclass(frozen=True)
class Defaults:
    """What a tool does without a key.

    Attributes:
        learning_rate: peak learning rate; ``None`` if the tool demands one.
        scheduler: learning-rate scheduler.
        warmup: fraction of the steps.
        warmup_limit: what limits it.
        others: key of the tool, key of xft, and value.
    """

    learning_rate: float | None
    scheduler: str = "linear"
    warmup: float = 0.0
    warmup_limit: str = ""
    others: tuple[tuple[str, str, object], ...] = ()


TRANSFORMERS = (
    ("num_train_epochs", "training.epochs", 3.0),
    ("per_device_train_batch_size", "training.micro_batch_size", 8),
    ("gradient_accumulation_steps", "training.gradient_accumulation_steps", 1),
    ("optim", "optimizer.type", "adamw"),
    ("seed", "seed", 42),
)
"""Defaults of the arguments of transformers."""


def import_common(values: Arguments, defaults: Defaults) -> None:
    """Take over what is left: optimizer, scheduler, distribution, trackers, and all keys whose value is copied."""
    draft = values.draft
    import_optimizer(values)
    import_scheduler(values, defaults.scheduler, defaults.warmup, defaults.warmup_limit)
    import_distribution(values)
    _gradient_checkpointing(values)
    _trackers(values)
    _intervals(values)
    _hub(values)
    values.change("strategy.timeout_minutes, 30 by default", "ddp_timeout")
    if values.is_on("trust_remote_code"):
        draft.change(values.full_name("trust_remote_code"), REMOTE_CODE)
    for key in values.unread:
        path = KEYS.get(key) or FOREIGN_KEYS.get(key, key)
        if path in COPIED and key not in SILENT:
            _copy(values, key, path)
    _leftovers(values)
    if defaults.learning_rate is not None:
        draft.default("learning_rate", "optimizer.lr", defaults.learning_rate)
    elif not draft.has("optimizer.lr"):
        draft.change("learning_rate", f"{draft.tool} needs one; optimizer.lr has the default of xft")
    for key, path, value in defaults.others:
        draft.default(key, path, value)
    draft.close(SILENT)


def import_unsupported(values: Arguments, methods: Mapping[str, str], parts: Mapping[str, str]) -> None:
    """Record methods that xft does not have.

    Args:
        values: arguments.
        methods: key that turns a method on, and name of the method. The run is imported without it.
        parts: beginning of other keys of a method, and name of the method.
    """
    for key, name in methods.items():
        value = values.pop(key)
        if value in (None, False, 0, "none", [], {}):
            if value is not None:
                values.draft.note(values.full_name(key), OFF)
        else:
            values.draft.miss(
                values.full_name(key), f"{name} is not in xft: the run is imported without it"
            )
    for key in values.unread:
        method = next((method for prefix, method in parts.items() if key.startswith(prefix)), None)
        if method is not None:
            values.miss(f"of {method}, which is not in xft", key)


def import_tokens(values: Arguments, *keys: str) -> None:
    """Take over special tokens that are added to the tokenizer."""
    values.take("model.additional_special_tokens", names, *keys)


def _copy(values: Arguments, key: str, path: str) -> None:
    draft, full = values.draft, values.full_name(key)
    if not draft.accepts(path):
        section = path.partition(".")[0]
        kind = draft.get(f"{section}.type") or "of this run"
        values.note(f"the {section} {kind} has no such value", key)
        return
    value = values.read(COPIED[path], key)
    if value is None and path != "training.max_grad_norm":
        draft.note(full, "no limit")
    else:
        draft.take(full, path, value)


def _leftovers(values: Arguments) -> None:
    """Record what becomes of the keys that nothing has read."""
    for key in values.unread:
        prefixed = (text for prefix, text in IGNORED_PREFIXES.items() if key.startswith(prefix))
        why = IGNORED.get(key) or next(prefixed, None)
        if why is not None:
            values.note(why, key)
        elif key.startswith(("wandb_", "swanlab_", "mlflow_", "trackio_", "comet_", "use_comet")):
            values.miss("set the keys of the tracker below loggers (`xft list loggers`)", key)
        elif key.endswith(("_token", "_api_key")) and "pad" not in key and "eos" not in key:
            values.note("keys and tokens are read from the environment", key)


def _gradient_checkpointing(values: Arguments) -> None:
    draft = values.draft
    keys = ("gradient_checkpointing", "activation_checkpointing", "enable_activation_checkpointing")
    if values.is_on("disable_gradient_checkpointing"):
        full = values.full_name("disable_gradient_checkpointing")
        draft.take(full, "model.gradient_checkpointing", False)
    key, value = values.find(*keys), values.pop(*keys)
    if isinstance(value, str) and value in ("offload", "unsloth"):
        draft.take(key, "model.gradient_checkpointing", "offload")
    elif value == "offload_disk":
        draft.change(
            key, "activations are offloaded to host memory", "model.gradient_checkpointing", "offload"
        )
    elif value is not None:
        draft.take(key, "model.gradient_checkpointing", values.convert(switch, key, value))
    if values.peek("activation_offloading") is False:
        values.note(OFF, "activation_offloading")
    values.miss(
        "model.gradient_checkpointing='offload' recomputes and offloads activations",
        "activation_offloading",
    )


def _trackers(values: Arguments) -> None:
    """Take over the trackers of a run and their options."""
    draft, key = values.draft, values.full_name("report_to")
    is_set = "report_to" in values
    given = values.read(names, "report_to") or []
    used = {name for name in given if name in _TRACKERS}
    others = [name for name in given if name not in (*_TRACKERS, "none", "all")]
    for name in sorted(used):
        draft.take(key, f"loggers.{name}", {})
    if others:
        draft.miss(key, f"no logger for {', '.join(others)} (`xft list loggers`)")
    elif is_set and not used:
        draft.note(key, "xft writes metrics.jsonl; `xft list loggers` shows trackers")
    for name in _TRACKERS:
        if values.is_on(f"use_{name}"):
            used.add(name)
            draft.take(
                values.full_name(f"use_{name}"), f"loggers.{name}", draft.get(f"loggers.{name}") or {}
            )
    for option, path in _TRACKER_KEYS.items():
        if option in values:
            used.add(path.partition(".")[0])
            values.take(f"loggers.{path}", _mode if path.endswith(".mode") else label, option)
    if "run_name" in values and used - {"tensorboard"}:
        for name in sorted(used - {"tensorboard"}):
            draft.set(f"loggers.{name}.name", values.convert(label, "run_name", values.peek("run_name")))
        values.note("name of the run in the trackers", "run_name")
    values.note("the run is named by its folder", "run_name")


def _intervals(values: Arguments) -> None:
    """Take over the steps between checkpoints, and between validations."""
    draft = values.draft
    for interval in _INTERVALS:
        strategy_key = values.find(*interval.strategies)
        strategy = values.read(label, *interval.strategies)
        if strategy == "steps":
            draft.note(strategy_key, f"by steps: {interval.path}")
        elif strategy is not None:
            draft.change(strategy_key, f"{strategy}: {interval.by_default}")
        values.change(interval.by_default, interval.per_epoch)
        full, steps = values.full_name(interval.steps), values.read(number, interval.steps)
        if steps is None:
            continue
        if strategy not in (None, "steps"):
            draft.note(full, f"{strategy_key} has priority")
        elif steps < 1:
            draft.change(full, f"{steps:g} is no number of steps: {interval.by_default}")
        else:
            draft.take(full, interval.path, values.convert(whole, full, steps))
    full = values.full_name("save_only_model")
    if values.is_on("save_only_model"):
        draft.take(full, "hooks.checkpoint.save_optimizer_state", False)
    full = values.full_name("metric_for_best_model")
    metric = values.read(text, "metric_for_best_model")
    if metric is not None and metric.removeprefix("eval_") in ("loss", "accuracy"):
        draft.take(full, "hooks.checkpoint.metric_for_best_model", metric.removeprefix("eval_"))
    elif metric is not None:
        draft.miss(full, f"the validation has no {metric}")


def _hub(values: Arguments) -> None:
    upload = "`xft convert RUN OUT --push OWNER/NAME` uploads a finished run"
    if values.is_on("push_to_hub"):
        values.draft.miss(values.full_name("push_to_hub"), upload)
    values.miss(upload, *_HUB)


def _mode(value: object) -> str:
    """Return the mode of a tracker; SwanLab has other names for two of them."""
    mode = label(value)
    return {"cloud": "online", "local": "offline"}.get(mode, mode)
