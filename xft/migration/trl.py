"""TRL and scripts of transformers: their command-line arguments, as YAML or JSON."""

from collections.abc import Mapping

from xft.migration.adapter import import_lora, take_experts, take_targets, without_adapter
from xft.migration.arguments import Arguments
from xft.migration.common import TRANSFORMERS, Defaults, import_common, import_tokens
from xft.migration.draft import Draft
from xft.migration.trl_data import import_data
from xft.migration.trl_rollout import KEYS as ROLLOUT_KEYS
from xft.migration.trl_rollout import import_rollout
from xft.migration.values import label, number, switch, text

TOOL = "TRL"
METHODS: Mapping[str, str] = {
    "sft": "instruction",
    "dpo": "preference",
    "orpo": "preference",
    "cpo": "preference",
    "reward": "preference",
    "kto": "unpaired_preference",
    "grpo": "prompt",
}
_KEYS = {
    "grpo": ROLLOUT_KEYS,
    "kto": ("desirable_weight", "undesirable_weight"),
    "reward": ("center_rewards_coefficient",),
    "cpo": ("cpo_alpha", "simpo_gamma"),
    "dpo": (
        *("precompute_ref_log_probs", "ref_model", "label_smoothing", "rpo_alpha"),
        *("ld_alpha", "f_divergence_type"),
    ),
}
"""Keys that only the arguments of one trainer have."""
_RATES = {"sft": 2e-5, "reward": 1e-4}
"""Learning rate of a method; 1e-6 for others."""
_LOSSES = ("sigmoid", "robust", "hinge", "ipo", "sppo_hard", "nca_pair")
_PEFT_LAYERS = ["q_proj", "v_proj"]
_UNKNOWN_MODEL = (
    "layers by the family of the model in peft, for most families these; 'all-linear' is the default of xft"
)


def import_trl(config: Mapping[str, object], method: str | None = None) -> Draft:
    """Return the draft of a config.

    Args:
        config: keys and values.
        method: key of ``METHODS``; ``None`` decides by the keys.

    Raises:
        ConfigError: the config has a method or a value that xft does not have.
    """
    draft = Draft(TOOL)
    values = Arguments(draft, config)
    method = method or _method(values)
    if method not in METHODS:
        draft.refuse("--method", method, ", ".join(METHODS))
    draft.set("model.type", "reward_model" if method == "reward" else "causal_lm")
    if values.take("model.path", text, "model_name_or_path", "model_name") is None:
        draft.refuse("model_name_or_path", None, "the name of a model")
    if values.read(label, "model_revision") not in (None, "main"):
        draft.miss("model_revision", "the newest revision is loaded")
    elif "model_revision" in draft.keys:
        draft.note("model_revision", "the newest revision is loaded")
    import_tokens(values, "additional_special_tokens")
    values.change("the tokens of the tokenizer are used as they are", "eos_token", "pad_token")
    _adapter(values, method)
    _precision(values)
    _objective(values, method)
    import_data(values, method, METHODS[method])
    if method == "grpo":
        import_rollout(values)
    import_common(values, Defaults(_RATES.get(method, 1e-6), others=TRANSFORMERS))
    return draft


def _method(values: Arguments) -> str:
    for method, keys in _KEYS.items():
        if any(key in values for key in keys):
            return method
    losses = values.peek("loss_type")
    named = losses if isinstance(losses, list) else [losses]
    return "dpo" if any(loss in _LOSSES for loss in named) or "beta" in values else "sft"


def _adapter(values: Arguments, method: str) -> None:
    draft = values.draft
    has_adapter = values.is_on("use_peft")
    for key, name in (("load_in_4bit", "nf4"), ("load_in_8bit", "int8")):
        if values.is_on(key):
            draft.take(key, "quantization.type", name)
    kind = draft.get("quantization.type")
    double = ("use_bnb_nested_quant", "bnb_4bit_use_double_quant")
    if kind == "nf4":
        if values.take("quantization.double_quant", switch, *double) is None:
            draft.default(double[0], "quantization.double_quant", False)
        values.note("nf4, which is used", "bnb_4bit_quant_type", "bnb_4bit_quant_storage")
    why = "without 4 bits, it has no effect"
    values.note(why, *double, "bnb_4bit_quant_type", "bnb_4bit_quant_storage")
    values.note("the task follows from model.type", "lora_task_type")
    if not has_adapter:
        if kind is not None:
            draft.refuse("use_peft", False, "an adapter above quantized weights")
        draft.note("use_peft", "adapter = None: all weights are trained")
        without_adapter(values)
        return
    draft.note("use_peft", "adapter.type = 'lora'")
    import_lora(values, 16, 32, None)
    _dropout(values, method)
    if not take_targets(values, "lora_target_modules"):
        draft.change(
            "lora_target_modules",
            f"{_PEFT_LAYERS}: {_UNKNOWN_MODEL}",
            "adapter.target_modules",
            _PEFT_LAYERS,
        )
    take_experts(values, "lora_target_parameters", "target_parameters")


def _dropout(values: Arguments, method: str) -> None:
    """Take over the dropout of the adapter, which the trainers of preferences set to 0 as they do any other."""
    draft, disables = values.draft, values.read(switch, "disable_dropout")
    if disables is not None:
        draft.note("disable_dropout", "as adapter.lora_dropout")
    if not (method not in ("sft", "grpo") if disables is None else disables):
        values.take("adapter.lora_dropout", number, "lora_dropout")
        draft.default("lora_dropout", "adapter.lora_dropout", 0.05)
        return
    how = f"0: the trainer of {method} disables dropout"
    values.change(how, "lora_dropout")
    draft.default("disable_dropout", "adapter.lora_dropout", 0.0)


def _precision(values: Arguments) -> None:
    """TRL loads weights in fp32 and computes in bf16, unless the config says otherwise."""
    draft, keys = values.draft, ("dtype", "torch_dtype")
    key, dtype = values.find(*keys), values.read(text, *keys)
    if draft.get("adapter") is not None:
        if dtype is not None:
            draft.note(key, "the hardware decides (model.dtype)")
        return
    if dtype in ("bfloat16", "float16", "float32"):
        draft.take(key, "model.dtype", dtype)
    elif dtype is not None:
        draft.note(key, "the hardware decides (model.dtype)")
    else:
        draft.default(key, "model.dtype", "float32")
    bf16_key, bf16 = values.full_name("bf16"), values.read(switch, "bf16")
    if bf16 is False:
        draft.note(bf16_key, "products in the type of the weights")
    elif draft.get("model.dtype") == "float32":
        strategy = {"type": "single_device", "mixed_precision": "bf16"}
        if bf16 is None:
            draft.default(bf16_key, "strategy", strategy)
        else:
            draft.take(bf16_key, "strategy", strategy, "matrix products")
    elif bf16:
        draft.note(bf16_key, "products in the type of the weights")


def _objective(values: Arguments, method: str) -> None:
    draft = values.draft
    loss, beta = values.read(_loss, "loss_type"), values.read(number, "beta")
    reference = values.read(text, "ref_model")
    if method == "sft":
        if loss is not None:
            change = draft.note if "nll" in loss else draft.change
            change("loss_type", "negative log-likelihood of the targets")
        for key, value in (("beta", beta), ("ref_model", reference)):
            if value is not None:
                draft.note(key, "of preferences, and this is sft")
        return
    is_simpo = method == "cpo" and loss == "simpo"
    draft.take("--method", "objective.type", "simpo" if is_simpo else method)
    if loss is not None:
        _loss_type(values, method, loss)
    alpha = values.read(number, "cpo_alpha") if is_simpo else None
    for key, path, value in (
        ("beta", "objective.beta", beta),
        ("ref_model", "objective.reference", reference),
        ("cpo_alpha", "objective.nll_weight", alpha),
    ):
        if value is not None and draft.accepts(path):
            draft.take(key, path, value)
        elif value is not None:
            draft.note(key, f"the objective {draft.get('objective.type')} has no such value")
    if is_simpo:
        values.take("objective.gamma", number, "simpo_gamma")
        for key, path, value in (
            ("cpo_alpha", "nll_weight", 1.0),
            ("beta", "beta", 0.1),
            ("simpo_gamma", "gamma", 0.5),
        ):
            draft.default(key, f"objective.{path}", value)
    why = "objective.penalty='l2' keeps scores near 0"
    values.miss(why, "center_rewards_coefficient")
    if method == "kto" and values.is_on("precompute_ref_log_probs"):
        draft.change("precompute_ref_log_probs", "off: it needs objective.kl='zero'")


def _loss_type(values: Arguments, method: str, loss: str) -> None:
    draft = values.draft
    if method == "dpo":
        if loss not in _LOSSES:
            draft.refuse("loss_type", loss, ", ".join(_LOSSES))
        draft.take("loss_type", "objective.loss", loss)
    elif method == "cpo":
        if loss not in ("sigmoid", "simpo"):
            draft.refuse("loss_type", loss, "sigmoid or simpo")
        draft.note("loss_type", f"objective.type = {draft.get('objective.type')!r}")
    elif method == "grpo":
        values.set("loss_type", loss)
    elif loss in (method, "kto", "sigmoid"):
        draft.note("loss_type", f"objective.type = {method!r}")
    else:
        draft.refuse("loss_type", loss, f"the loss of {method}")


def _loss(value: object) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        raise ValueError("a single loss")
    return value
