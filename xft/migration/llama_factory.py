"""LLaMA-Factory: YAML configs of ``llamafactory-cli train``, of version 0 and of version 1."""

from collections.abc import Mapping
from pathlib import Path

from xft.migration.adapter import import_lora, take_targets, without_adapter
from xft.migration.arguments import Arguments
from xft.migration.common import TRANSFORMERS, Defaults, import_common, import_tokens, import_unsupported
from xft.migration.draft import Draft
from xft.migration.llama_factory_1 import DEFAULTS_1, as_version_0
from xft.migration.llama_factory_data import import_data
from xft.migration.values import count, label, names, number, switch, text, whole

TOOL = "LLaMA-Factory"
DEFAULTS = Defaults(5e-5, others=TRANSFORMERS)
STAGES = {
    "sft": "instruction",
    "pt": "text",
    "dpo": "preference",
    "rm": "preference",
    "kto": "unpaired_preference",
}
_DPO_LOSSES = ("sigmoid", "hinge", "ipo", "kto_pair")
_METHODS = {
    "use_galore": "GaLore",
    "use_apollo": "APOLLO",
    "use_badam": "BAdam",
    "use_adam_mini": "Adam-mini",
    "use_llama_pro": "LLaMA Pro",
    "mixture_of_depths": "mixture of depths",
    "shift_attn": "shifted attention",
    "use_asft_loss": "the loss ASFT",
    "use_dft_loss": "the loss DFT",
    "use_eaft_loss": "the loss EAFT",
    "use_kt": "KTransformers",
    "use_mca": "Megatron Core",
    "fp8": "FP8 training",
    "pref_bco_weight": "the BCO loss",
    "upcast_layernorm": "the upcast of norms",
}
"""Switches of methods that xft does not have: the run without them is imported."""
_PARTS = {
    "galore_": "GaLore",
    "apollo_": "APOLLO",
    "badam_": "BAdam",
    "kt_": "KTransformers",
    "asft_": "the loss ASFT",
    "eaft_": "the loss EAFT",
    "fp8_": "FP8 training",
    "ppo_": "PPO",
    "reward_model": "PPO",
    "oft_": "OFT",
    "ray_": "Ray",
}
_IMAGES = (
    "image_max_pixels",
    "image_min_pixels",
    "video_max_pixels",
    "video_min_pixels",
    "freeze_vision_tower",
)


def import_llama_factory(config: Mapping[str, object], file: Path) -> Draft:
    """Return the draft of a config.

    Args:
        config: keys and values.
        file: the config; ``data/dataset_info.json`` is searched in its parent folders.

    Raises:
        ConfigError: the config trains nothing, or has a method or a value that xft does not have.
    """
    draft = Draft(TOOL)
    is_version_1 = "model" in config
    values = as_version_0(draft, config) if is_version_1 else Arguments(draft, config)
    trains = any(key in values for key in ("dataset", "train_dataset"))
    if values.is_on("do_predict") or "export_dir" in values or not trains:
        draft.refuse("do_train", None, "a config that trains; others predict, export or chat")
    stage = values.read(text, "stage") or "sft"
    kind = STAGES.get(stage)
    if kind is None:
        draft.refuse("stage", stage, "sft, pt, dpo, kto or rm; for reinforcement learning see docs/rl.md")
    _model(values, stage)
    _adapter(values)
    _objective(values, stage)
    import_data(values, kind, file)
    _precision(values)
    import_unsupported(values, _METHODS, _PARTS)
    if values.is_on("use_muon"):
        draft.take(values.full_name("use_muon"), "optimizer.type", "muon")
        values.note("use_muon has priority", "optim")
    import_common(values, DEFAULTS_1 if is_version_1 else DEFAULTS)
    return draft


def _model(values: Arguments, stage: str) -> None:
    draft = values.draft
    has_images = any(key in values for key in _IMAGES)
    kind = "reward_model" if stage == "rm" else "vision_language" if has_images else "causal_lm"
    draft.set("model.type", kind)
    if "stage" in draft.keys:
        draft.note("stage", f"{stage}: model.type = {kind!r}")
    if values.take("model.path", text, "model_name_or_path") is None:
        draft.refuse("model_name_or_path", None, "the name of a model")
    key, bases = values.full_name("adapter_name_or_path"), values.read(names, "adapter_name_or_path")
    if bases and len(bases) > 1:
        draft.refuse(
            key, bases, "one adapter: merge the others into the model first (`xft convert --merge`)"
        )
    if bases == []:
        draft.note(key, "no adapter")
    elif bases:
        draft.change(
            key, "the adapter is continued: it must have been saved by peft", "model.path", bases[0]
        )
    if values.is_on("train_from_scratch"):
        draft.refuse("train_from_scratch", True, "a model with trained weights")
    if values.read(label, "model_revision") not in (None, "main"):
        draft.miss(values.full_name("model_revision"), "the newest revision is loaded")
    elif values.full_name("model_revision") in draft.keys:
        draft.note(values.full_name("model_revision"), "the newest revision is loaded")
    import_tokens(values, "add_special_tokens")
    if added := values.read(names, "add_tokens"):
        known = draft.get("model.additional_special_tokens") or []
        key, how = values.full_name("add_tokens"), "added as special tokens"
        draft.change(key, how, "model.additional_special_tokens", [*known, *added])
    why = "model.rope_parameters=dict(rope_type='yarn', factor=4) scales the rotary embedding"
    values.miss(why, "rope_scaling")
    if kind == "vision_language":
        _images(values)
    values.miss("of images, and this model sees none", "image_max_pixels", "image_min_pixels")
    _quantization(values)


def _images(values: Arguments) -> None:
    draft = values.draft
    values.take("model.max_pixels", count, "image_max_pixels")
    values.take("model.min_pixels", count, "image_min_pixels")
    for key, part, by_default in (
        ("freeze_vision_tower", "vision", True),
        ("freeze_multi_modal_projector", "projector", True),
        ("freeze_language_model", "language", False),
    ):
        full, value = values.full_name(key), values.read(switch, key)
        if value is None:
            continue
        if value == by_default:
            draft.note(full, f"{'frozen' if value else 'trained'}, as by default (model.train)")
        else:
            draft.take(full, f"model.train.{part}", "frozen" if value else "full")


def _quantization(values: Arguments) -> None:
    draft, key = values.draft, values.full_name("quantization_bit")
    bits = values.read(whole, "quantization_bit")
    method, kind = values.read(text, "quantization_method"), values.read(text, "quantization_type")
    double_key, double = values.full_name("double_quantization"), values.read(switch, "double_quantization")
    others = {"quantization_method": method, "quantization_type": kind}
    if bits is None:
        for other, value in (*others.items(), ("double_quantization", double)):
            if value is not None:
                draft.note(values.full_name(other), "without quantization_bit, it has no effect")
        return
    name = {4: "nf4", 8: "int8"}.get(bits)
    if name is None or method not in (None, "bnb", "bitsandbytes"):
        draft.refuse("quantization_bit", bits, "4 or 8 bits of bitsandbytes")
    draft.take(key, "quantization.type", name)
    if method is not None:
        draft.note(values.full_name("quantization_method"), "bitsandbytes")
    if kind == "fp4" and name == "nf4":
        draft.change(values.full_name("quantization_type"), "fp4: nf4, which is more exact")
    elif kind is not None:
        draft.note(values.full_name("quantization_type"), f"quantization.type = {name!r}")
    if double is not None and name == "nf4":
        draft.take(double_key, "quantization.double_quant", double)
    elif double is not None:
        draft.note(double_key, "of 4 bits")


def _adapter(values: Arguments) -> None:
    draft, key = values.draft, values.full_name("finetuning_type")
    kind = values.read(text, "finetuning_type")
    if kind not in (None, "lora", "full"):
        draft.refuse("finetuning_type", kind, "lora or full")
    values.note(
        "of finetuning_type freeze",
        "freeze_trainable_layers",
        "freeze_trainable_modules",
        "freeze_extra_modules",
    )
    if kind == "full":
        draft.take(key, "adapter", None)
        without_adapter(values)
        return
    import_lora(values, 8, None)
    if kind is None:
        draft.note(key, f"adapter.type = 'lora' ({draft.by_default})")
    else:
        draft.note(key, "adapter.type = 'lora'")
    if not take_targets(values, "lora_target"):
        draft.default(values.full_name("lora_target"), "adapter.target_modules", "all-linear")
    if values.is_on("create_new_adapter"):
        how = "the adapter of adapter_name_or_path is continued; merge it to begin a new one"
        draft.change(values.full_name("create_new_adapter"), how)


def _objective(values: Arguments, stage: str) -> None:
    draft, keys = values.draft, ("pref_loss", "pref_beta", "pref_ftx", "simpo_gamma")
    loss_key, beta_key, weight_key, gamma_key = map(values.full_name, keys)
    loss, beta = values.read(text, "pref_loss"), values.read(number, "pref_beta")
    weight, gamma = values.read(number, "pref_ftx"), values.read(number, "simpo_gamma")
    reference = values.read(text, "ref_model")
    kinds = {"rm": "reward", "pt": "pretrain", "kto": "kto", "dpo": "dpo"}
    if stage == "dpo" and loss in ("orpo", "simpo"):
        draft.take(loss_key, "objective.type", loss)
    elif stage in kinds:
        draft.take("stage", "objective.type", kinds[stage])
    kind = draft.get("objective.type")
    if stage == "dpo" and kind == "dpo":
        if loss not in (None, *_DPO_LOSSES):
            draft.refuse("pref_loss", loss, f"{', '.join(_DPO_LOSSES)}, orpo or simpo")
        if loss is not None:
            draft.take(loss_key, "objective.loss", loss)
    elif loss is not None and kind not in ("orpo", "simpo"):
        draft.note(loss_key, f"of stage dpo, and this is {stage}")
    for key, value, path in (
        (beta_key, beta, "objective.beta"),
        (weight_key, weight, "objective.nll_weight"),
        (gamma_key, gamma, "objective.gamma"),
        (values.full_name("ref_model"), reference, "objective.reference"),
    ):
        if value is not None and kind is not None and draft.accepts(path):
            draft.take(key, path, value)
        elif value is not None:
            draft.note(key, f"the objective {kind or 'sft'} has no such value")
    if kind in ("dpo", "kto", "orpo", "simpo"):
        draft.default(beta_key, "objective.beta", 0.1)
    if kind == "simpo":
        draft.default(gamma_key, "objective.gamma", 0.5)


def _precision(values: Arguments) -> None:
    """Trainable weights are fp32 in LLaMA-Factory, unless ``pure_bf16``."""
    draft = values.draft
    pure_key, pure = values.full_name("pure_bf16"), values.read(switch, "pure_bf16")
    key, bf16 = values.find("bf16", "mixed_precision"), values.read(_bf16, "bf16", "mixed_precision")
    if pure:
        draft.take(pure_key, "model.dtype", "bfloat16")
    elif pure is not None:
        draft.note(pure_key, "off")
    if draft.get("adapter") is not None or pure:
        if bf16 is not None:
            draft.note(key, "the hardware decides (model.dtype)")
        return
    if bf16 is None:
        draft.default(key, "model.dtype", "float32")
        return
    draft.take(key, "model.dtype", "float32", "weights and optimizer state")
    if bf16:
        strategy = {"type": "single_device", **(draft.get("strategy") or {}), "mixed_precision": "bf16"}
        draft.take(key, "strategy", strategy, "matrix products")


def _bf16(value: object) -> bool:
    return value == "bf16" or switch(value)
