"""Configs of LLaMA-Factory 1, with the keys of version 0."""

from collections.abc import Mapping

from xft.errors import ConfigError
from xft.migration.arguments import Arguments
from xft.migration.common import Defaults
from xft.migration.draft import Draft
from xft.migration.values import count, text

DEFAULTS_1 = Defaults(
    1e-4,
    others=(
        ("num_train_epochs", "training.epochs", 3.0),
        ("micro_batch_size", "training.micro_batch_size", 1),
        ("optim_config", "optimizer.type", "adamw"),
        ("seed", "seed", 42),
    ),
)
_RENAMED = {
    "model": "model_name_or_path",
    "peft_config.name": "finetuning_type",
    "peft_config.r": "lora_rank",
    "peft_config.lora_alpha": "lora_alpha",
    "peft_config.lora_dropout": "lora_dropout",
    "peft_config.target_modules": "lora_target",
    "peft_config.export_dir": "export_dir",
    "peft_config.adapter_name_or_path": "adapter_name_or_path",
    "quant_config.quantization_bit": "quantization_bit",
    "quant_config.double_quantization": "double_quantization",
    "dist_config.config_file": "deepspeed",
    "dist_config.cp_size": "sequence_parallel_size",
    "cp_size": "sequence_parallel_size",
    "optim_config.name": "optim",
    "lr_scheduler_config.name": "lr_scheduler_type",
    "lr_scheduler_config.warmup_ratio": "warmup_ratio",
    "lr_scheduler_config.warmup_steps": "warmup_steps",
}
"""Key of version 1 to that of version 0."""
_SECTIONS = ("peft_config", "quant_config", "dist_config", "optim_config", "lr_scheduler_config")


def as_version_0(draft: Draft, config: Mapping[str, object]) -> Arguments:
    """Return the arguments of a config of version 1 under the keys of version 0.

    Raises:
        ConfigError: a section is none, or a value has another type.
    """
    flat: dict[str, object] = {}
    for key, value in config.items():
        if key in _SECTIONS and value is not None:
            if not isinstance(value, dict):
                raise ConfigError(key=key, got=value, expected="keys and values")
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = value
    names: dict[str, str] = {}
    for key in flat:
        name = _RENAMED.get(key, key)
        names[key if name in names else name] = key
    values = Arguments(draft, {name: flat[key] for name, key in names.items()}, names=names)
    if "finetuning_type" not in values:
        draft.take("peft_config", "adapter", None, "the default of LLaMA-Factory")
        values.set("finetuning_type", "full")
    kind = values.read(text, "dist_config.name") or ""
    if kind.startswith("fsdp"):
        draft.note("dist_config.name", f"{kind}: see fsdp")
        values.set("fsdp", True)
    elif kind == "deepspeed":
        draft.note("dist_config.name", "see dist_config.config_file")
        if "deepspeed" not in values:
            values.set("deepspeed", "zero3")
    elif kind:
        draft.miss("dist_config.name", f"xft has no {kind}")
    values.note("the model is loaded with its saved weights", "model_class", "init_config")
    values.change(
        "batches have whole samples, padded or free of padding (data.packing)", "batching_strategy"
    )
    _batch(values)
    return values


def _batch(values: Arguments) -> None:
    """The global batch is that of all devices; how many there are is not known."""
    key, size = values.full_name("global_batch_size"), values.read(count, "global_batch_size")
    if size is None:
        return
    micro = values.peek("micro_batch_size")
    rows = values.convert(count, "micro_batch_size", 1 if micro is None else micro)
    how = f"{size} rows per step on one device: divide it by the number of devices"
    values.draft.change(key, how, "training.gradient_accumulation_steps", max(1, size // rows))
