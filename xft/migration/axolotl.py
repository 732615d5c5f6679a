"""Axolotl: YAML configs of ``axolotl train``."""

from collections.abc import Mapping

from xft.migration.adapter import import_lora, take_experts, take_targets, without_adapter
from xft.migration.arguments import Arguments
from xft.migration.axolotl_data import import_datasets
from xft.migration.axolotl_formats import METHODS
from xft.migration.common import Defaults, import_common, import_tokens, import_unsupported
from xft.migration.draft import Draft
from xft.migration.values import names, number, switch, text, whole

TOOL = "axolotl"
DEFAULTS = Defaults(
    None,
    "cosine",
    0.03,
    "of at most 100 steps there",
    (
        ("num_epochs", "training.epochs", 1.0),
        ("micro_batch_size", "training.micro_batch_size", 1),
        ("gradient_accumulation_steps", "training.gradient_accumulation_steps", 1),
        ("optimizer", "optimizer.type", "adamw"),
        ("save_total_limit", "hooks.checkpoint.save_total_limit", 4),
        ("seed", "seed", 42),
    ),
)
_REFUSED_PLUGINS = ("diffusion", "kd")
_UNSUPPORTED = {
    "qat": "quantization-aware training",
    "relora": "ReLoRA",
    "relora_steps": "ReLoRA",
    "lisa_n_layers": "LISA",
    "fp8": "FP8 training",
    "unfrozen_parameters": "training of single weights",
    "llmcompressor": "sparse training",
    "use_eaft": "the loss EAFT",
    "reinit_weights": "new initial weights",
    "loss": "another loss",
    "gptq": "training on GPTQ weights",
    "use_pose": "PoSE",
    "curriculum_sampling": "training in the order of the rows",
}
_PARTS = {
    "eaft_": "the loss EAFT",
    "lisa_": "LISA",
    "relora_": "ReLoRA",
    "jagged_": "ReLoRA",
    "fp8_": "FP8 training",
    "pose_": "PoSE",
}
_IMAGES = ("vision", "_vl", "vl_", "llava", "pixtral", "smolvlm", "gemma3n")
_IMAGE_KEYS = ("processor_type", "image_size", "image_resize_algorithm")
_LOADING = (
    "tokenizer_use_mistral_common",
    "resize_token_embeddings_to_32x",
    "model_quantization_config",
    "model_quantization_config_kwargs",
    "experimental_skip_move_to_device",
    "llama4_linearized_experts",
    "use_scattermoe",
    "use_sonicmoe",
    "experts_implementation",
    "base_model_config",
    "cls_model_config",
    "qlora_sharded_model_loading",
    "lora_on_cpu",
    "peft_autocast_adapter_dtype",
)
_WATCHDOG = "hooks.training_health watches the loss"
_PRECISION = ("bfloat16", "float16", "torch_dtype", "float32")


def import_axolotl(config: Mapping[str, object]) -> Draft:
    """Return the draft of a config.

    Raises:
        ConfigError: the config has a method or a value that xft does not have.
    """
    draft = Draft(TOOL)
    values = Arguments(draft, config)
    method = _method(values)
    _model(values, method)
    _adapter(values)
    _quantization(values)
    _objective(values, method)
    import_datasets(values, method)
    import_unsupported(values, _UNSUPPORTED, _PARTS)
    _batch(values)
    import_common(values, DEFAULTS)
    return draft


def _method(values: Arguments) -> str:
    draft, rl = values.draft, values.read(text, "rl")
    if values.is_on("process_reward_model") or values.read(whole, "num_labels") not in (1, None):
        draft.refuse("process_reward_model", True, "a reward model with one score")
    _plugins(values)
    if "num_labels" in draft.keys:
        draft.note("num_labels", "1: one score")
    if values.is_on("reward_model"):
        draft.note("reward_model", "model.type = 'reward_model'")
        return "reward"
    if rl in ("grpo", "gdpo"):
        draft.refuse("rl", rl, "rewards of xft (docs/rl.md): those of axolotl are Python functions for TRL")
    if rl is not None and rl not in METHODS:
        draft.refuse("rl", rl, ", ".join(METHODS))
    return rl if rl is not None else "pretrain" if "pretraining_dataset" in values else "sft"


def _plugins(values: Arguments) -> None:
    """Take over plugins whose part is built in, such as fused kernels; others change the run."""
    plugins, draft = values.read(names, "plugins"), values.draft
    for plugin in plugins or []:
        refused = next((name for name in _REFUSED_PLUGINS if f".{name}." in plugin), None)
        if refused is not None:
            draft.refuse("plugins", refused, "a config without this plugin")
        if any(word in plugin for word in ("liger", "cut_cross_entropy", "kernels", "swanlab")):
            draft.note("plugins", f"{plugin}: built in (model.fused_kernels, loggers)")
        else:
            draft.miss("plugins", f"{plugin} is not in xft: the run is imported without it")
    if plugins == []:
        draft.note("plugins", "no plugin")


def _model(values: Arguments, method: str) -> None:
    draft = values.draft
    path = values.read(text, "base_model") or draft.refuse("base_model", None, "the name of a model")
    if "voxtral" in path.lower() or "audio" in path.lower():
        draft.refuse("base_model", path, "models of text and images")
    template = values.peek("chat_template") or ""
    text_only = bool(template) and not values.peek("skip_prepare_dataset")
    has_images = any(key in values for key in _IMAGE_KEYS)
    has_images = has_images or (
        not text_only and any(word in f"{path} {template}".lower() for word in _IMAGES)
    )
    kind = "reward_model" if method == "reward" else "vision_language" if has_images else "causal_lm"
    draft.set("model.type", kind)
    draft.take("base_model", "model.path", path)
    values.note("the processor of the model is used", "processor_type", "skip_prepare_dataset")
    why = "images keep the size that the processor chooses (model.max_pixels limits it)"
    values.change(why, "image_size", "image_resize_algorithm")
    values.note("the model is loaded from its folder", *_LOADING)
    values.note("the hardware decides (model.dtype)", *_PRECISION)
    values.note(_WATCHDOG, "loss_watchdog_threshold", "loss_watchdog_patience")
    values.miss("quantization.type='nf4' or 'int8' quantizes the base", "peft")
    if values.is_on("freeze_mm_modules"):
        draft.note("freeze_mm_modules", "vision tower and projector are frozen by default (model.train)")
    if values.read(text, "revision_of_model") not in (None, "main"):
        draft.miss("revision_of_model", "the newest revision is loaded")
    if not isinstance(values.peek("tokens"), dict):  # an old form of special_tokens
        import_tokens(values, "tokens")
    why = "tokens of the template and the tokenizer are used as they are"
    values.change(why, "special_tokens", "added_tokens_overrides", "eot_tokens", "tokens")
    _router_loss(values)


def _router_loss(values: Arguments) -> None:
    """Take over the auxiliary loss of experts among the changes of the model's config."""
    options = values.section("model_config", "overrides_of_model_config")
    coefficient = options.take("model.router_aux_loss_coef", number, "router_aux_loss_coef")
    key, is_on = options.full_name("output_router_logits"), options.read(switch, "output_router_logits")
    if is_on and coefficient is None:
        how = "without model.router_aux_loss_coef, the auxiliary loss is not added: set it to the coefficient of the model"
        values.draft.change(key, how)
    elif is_on:
        values.draft.note(key, "the auxiliary loss is added")
    elif is_on is False:
        values.draft.take(key, "model.router_aux_loss_coef", 0.0, "the auxiliary loss is not added")


def _adapter(values: Arguments) -> None:
    draft, kind = values.draft, values.read(text, "adapter")
    if kind is None:
        draft.note("adapter", f"adapter = None ({draft.by_default}): all weights are trained")
        values.note("without an adapter, it has no effect", "lora_model_dir")
        without_adapter(values)
        return
    if kind not in ("lora", "qlora"):
        draft.refuse("adapter", kind, "lora, qlora or none")
    draft.note("adapter", "adapter.type = 'lora'")
    base = values.read(text, "lora_model_dir")
    if base:
        how = "the adapter is continued: it must have been saved by peft"
        draft.change("lora_model_dir", how, "model.path", base)
    import_lora(values, 8, 16)
    linear = values.is_on("lora_target_linear")
    named = not linear and take_targets(values, "lora_target_modules")
    if linear:
        draft.take("lora_target_linear", "adapter.target_modules", "all-linear")
        values.note("lora_target_linear has priority", "lora_target_modules")
    elif not named:
        draft.default("lora_target_modules", "adapter.target_modules", "all-linear")
    take_experts(values, "lora_target_parameters")


def _quantization(values: Arguments) -> None:
    draft = values.draft
    bits4, bits8 = values.is_on("load_in_4bit"), values.is_on("load_in_8bit")
    options = values.section("bnb_config_kwargs")
    if draft.get("adapter") is None and (bits4 or bits8):
        key = "load_in_4bit" if bits4 else "load_in_8bit"
        draft.refuse(key, True, "an adapter above quantized weights")
    if bits4:
        draft.take("load_in_4bit", "quantization.type", "nf4")
        key = options.full_name("bnb_4bit_use_double_quant")
        if options.take("quantization.double_quant", switch, "bnb_4bit_use_double_quant") is None:
            draft.default(key, "quantization.double_quant", True)
        options.note("nf4, which is used", "bnb_4bit_quant_type", "bnb_4bit_quant_storage")
    elif bits8:
        draft.take("load_in_8bit", "quantization.type", "int8")
    if values.is_on("quantize_moe_experts"):
        draft.note("quantize_moe_experts", "nf4 quantizes fused experts")


def _objective(values: Arguments, method: str) -> None:
    draft, trl = values.draft, values.section("trl")
    keys = {
        trl.full_name("beta"): trl.read(number, "beta"),
        "rl_beta": values.read(number, "rl_beta"),
        "orpo_alpha": values.read(number, "orpo_alpha"),
    }
    given = {key: value for key, value in keys.items() if value is not None}
    trl.miss("of reinforcement learning with TRL", *trl.unread)
    if method == "pretrain":
        draft.note("pretraining_dataset", "objective.type = 'pretrain'")
        draft.set("objective.type", "pretrain")
    elif method == "reward":
        draft.set("objective.type", "reward")
    elif method != "sft":
        draft.take("rl", "objective.type", "dpo" if method == "ipo" else method)
    if method == "ipo":
        draft.take("rl", "objective.loss", "ipo")
    used = next(iter(given)) if method not in ("pretrain", "sft", "reward") and given else ""
    for key, value in given.items():
        if key == used:
            draft.take(key, "objective.beta", value)
        else:
            draft.note(key, f"{used} has priority" if used else f"of preferences, and this is {method}")
    if method == "simpo":
        draft.default("rl_beta", "objective.beta", 0.1)
        draft.default("simpo_gamma", "objective.gamma", 0.5)
    for key in ("desirable_weight", "undesirable_weight"):
        factor = values.read(number, f"kto_{key}")
        if factor is not None and method == "kto":
            draft.take(f"kto_{key}", f"objective.{key}", factor)
        elif factor is not None:
            draft.note(f"kto_{key}", f"of KTO, and this is {method}")
    values.miss("objective.penalty='l2' keeps scores near 0", "center_rewards_coefficient")


def _batch(values: Arguments) -> None:
    """The total batch is an alternative to the accumulation."""
    draft, size = values.draft, values.read(whole, "batch_size")
    if size is None:
        return
    if "gradient_accumulation_steps" in values:
        draft.note("batch_size", "gradient_accumulation_steps has priority")
        return
    micro = values.peek("micro_batch_size")
    rows = values.convert(whole, "micro_batch_size", 1 if micro is None else micro)
    steps = max(1, size // max(rows, 1))
    how = f"{size} rows per step on one device: divide it by the number of devices"
    draft.change("batch_size", how, "training.gradient_accumulation_steps", steps)
