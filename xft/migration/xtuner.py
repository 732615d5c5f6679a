"""XTuner 0.1 and 0.2: Python configs of MMEngine, read by their syntax tree."""

from collections.abc import Mapping

from xft.migration.argument_tables import SILENT as SHARED_SILENT
from xft.migration.arguments import Arguments
from xft.migration.common import REMOTE_CODE
from xft.migration.draft import Draft
from xft.migration.python_values import Name, evaluate_config
from xft.migration.values import count, label, number, switch, text, whole
from xft.migration.xtuner_adapter import import_lora, import_quantization
from xft.migration.xtuner_data import component, import_data
from xft.migration.xtuner_images import LLAVA, import_parts
from xft.migration.xtuner_training import import_training

TOOL = "XTuner"
METHODS: Mapping[str, str] = {
    "SupervisedFinetune": "sft",
    "DPO": "dpo",
    "ORPO": "orpo",
    "RewardModel": "reward",
    LLAVA: "sft",
}
_REMOTE_IMAGE_MODEL = "InternVL_V1_5"
_REWARD_LOSSES = {"ranking": "bradley_terry", "focal": "focal"}
_CONFIG_KEYS = frozenset(
    (
        *("model", "tokenizer", "train_dataloader", "val_dataloader", "test_dataloader", "val_evaluator"),
        *("optim_wrapper", "optimizer", "param_scheduler", "train_cfg", "val_cfg", "test_cfg", "strategy"),
        *("custom_hooks", "default_hooks", "env_cfg", "visualizer", "log_level", "load_from", "resume"),
        *("randomness", "log_processor", "launcher", "runner_type", "default_scope", "work_dir"),
        *("test_evaluator", "data_preprocessor", "auto_scale_lr"),
    )
)
"""Names that MMEngine reads; any other name only helps to write a config."""
_BUILT_IN_HOOKS = (
    "DatasetInfoHook",
    "VarlenAttnArgsToMessageHubHook",
    "ThroughputHook",
    "HFCheckpointHook",
)
SILENT = frozenset(
    (
        *("type", "tokenizer", "padding_side", "use_fast", "prompt_template", "task_type", "deterministic"),
        *("env_cfg", "log_level", "log_processor", "launcher", "runner_type", "default_scope", "resume"),
        *("timer", "logger", "param_scheduler", "sampler_seed", "by_epoch", "error_if_nonfinite"),
        *("num_workers", "pin_memory", "persistent_workers", "prefetch_factor", "sampler", "collate_fn"),
        *(
            "remove_unused_columns",
            "num_proc",
            "template_map_fn",
            "shuffle_before_pack",
            "is_dpo",
            "is_reward",
        ),
        *("llm_int8_threshold", "llm_int8_has_fp16_weight", "bnb_4bit_compute_dtype", "use_varlen_attn"),
    )
)
"""Keys that choose how XTuner and MMEngine do what xft does anyway. They have no entry."""


def import_xtuner(source: str, where: str) -> Draft:
    """Return the draft of a config.

    Raises:
        ConfigError: the file does not parse, is no config of XTuner, or has a method or a value that xft does not have.
    """
    config = evaluate_config(source, where)
    draft = Draft(TOOL)
    model = config.values.get("model")
    kind = component(model.get("type")) if isinstance(model, dict) else ""
    if kind == _REMOTE_IMAGE_MODEL:
        expected = "a model of transformers: the InternVL models whose names end in -hf (docs/images.md)"
        draft.refuse("model.type", kind, expected)
    if kind not in METHODS:
        draft.refuse("model.type", kind or None, f"one of {', '.join(METHODS)}")
    # A name that another one is computed from is explained by what is computed.
    helpers = config.used - _CONFIG_KEYS
    values = Arguments(draft, {key: value for key, value in config.values.items() if key not in helpers})
    method = METHODS[kind]
    _model(values, kind)
    import_data(values, method, config.values)
    import_training(values, config.values)
    _hooks(values)
    _rest(values)
    draft.close(SHARED_SILENT | SILENT)
    return draft


def _model(values: Arguments, kind: str) -> None:
    draft, model, method = values.draft, values.section("model"), METHODS[kind]
    llm = model.peek("llm")
    if not isinstance(llm, dict):
        expected = "a model given as dict(type=..., pretrained_model_name_or_path=...)"
        draft.refuse("model.llm", llm, expected)
    options = model.section("llm")
    draft.set("model.type", "reward_model" if method == "reward" else "causal_lm")
    key = options.full_name("pretrained_model_name_or_path")
    path = options.peek("pretrained_model_name_or_path")
    if not isinstance(path, str):
        draft.refuse(key, path.path if isinstance(path, Name) else path, "the name of a model")
    if kind == LLAVA:
        import_parts(model, options)
    else:
        options.take("model.path", text, "pretrained_model_name_or_path")
        import_lora(model)
    options.note("the hardware decides (model.dtype)", "torch_dtype")
    options.note(
        "xft selects the fastest exact attention (model.attn_implementation)", "attn_implementation"
    )
    if options.is_on("trust_remote_code"):
        draft.change(options.full_name("trust_remote_code"), REMOTE_CODE)
    import_quantization(options)
    _objective(model, method)
    model.note("the reference is the model without the adapter (objective.reference)", "ref_llm")
    model.change("model.rope_parameters scales the rotary embedding", "max_position_embeddings")
    model.note("chosen by the memory (model.gradient_checkpointing)", "use_activation_checkpointing")
    model.miss(
        "a checkpoint of XTuner is not read: model.path takes a folder of Hugging Face", "pretrained_pth"
    )


def _objective(model: Arguments, method: str) -> None:
    draft = model.draft
    if method != "sft":
        draft.set("objective.type", method)
    key, loss = model.full_name("loss_type"), model.read(label, "loss_type")
    if loss is not None and method == "dpo":
        draft.take(key, "objective.loss", loss)
    elif loss is not None and method == "reward" and loss in _REWARD_LOSSES:
        draft.take(key, "objective.loss", _REWARD_LOSSES[loss])
    elif loss is not None:
        draft.refuse(key, loss, f"a loss of {method}: {', '.join(_REWARD_LOSSES)}")
    if method == "reward":
        penalty = model.read(label, "penalty_type")
        if penalty in ("log_barrier", "l2", "none"):
            draft.take(model.full_name("penalty_type"), "objective.penalty", penalty)
        elif penalty is not None:
            draft.refuse(model.full_name("penalty_type"), penalty, "log_barrier, l2 or none")
        else:
            draft.default(model.full_name("penalty_type"), "objective.penalty", "log_barrier")
        model.take("objective.penalty_weight", number, "penalty_weight")
        draft.change(
            model.full_name("reward_token_id"),
            "no token is added: the score is that of the last token of the template",
        )
        model.pop("reward_token_id")
    for key in ("beta", "label_smoothing"):
        if key in model and method in ("dpo", "orpo") and draft.accepts(f"objective.{key}"):
            model.take(f"objective.{key}", number, key)


def _hooks(values: Arguments) -> None:
    draft, hooks = values.draft, values.section("default_hooks")
    checkpoint = hooks.section("checkpoint")
    by_epoch = checkpoint.read(switch, "by_epoch")
    key, interval = checkpoint.full_name("interval"), checkpoint.read(whole, "interval")
    if interval is not None and interval > 0 and by_epoch is False:
        draft.take(key, "hooks.checkpoint.interval", interval)
    elif interval is not None:
        draft.change(
            key, "hooks.checkpoint.interval counts steps; about five checkpoints per run by default"
        )
    key, limit = checkpoint.full_name("max_keep_ckpts"), checkpoint.read(whole, "max_keep_ckpts")
    if limit is not None and limit > 0:
        draft.take(key, "hooks.checkpoint.save_total_limit", limit)
    elif limit is not None:
        draft.take(key, "hooks.checkpoint.save_total_limit", 10**6, "no limit")
    if checkpoint.read(switch, "save_optimizer") is False:
        draft.take(checkpoint.full_name("save_optimizer"), "hooks.checkpoint.save_optimizer_state", False)
    for hook in values.sections("custom_hooks"):
        kind = component(hook.peek("type"))
        if kind == "EvaluateChatHook":
            _questions(hook)
        elif kind not in _BUILT_IN_HOOKS:
            hook.miss(f"no hook like {kind}; `xft list hooks` shows those of xft", *hook.unread)


def _questions(hook: Arguments) -> None:
    """Take over the questions that the model answers during the run."""
    draft, system = hook.draft, hook.peek("system")
    questions = hook.read(names_of_lines, "evaluation_inputs")
    if questions:
        prompts = [{"question": line, "system": system} for line in questions] if isinstance(system, str) and system else questions  # fmt: skip
        draft.take(hook.full_name("evaluation_inputs"), "eval_prompts", prompts)
    key, every = hook.full_name("every_n_iters"), hook.read(whole, "every_n_iters")
    if every is not None and every > 0:
        draft.take(key, "hooks.sample_generation.interval", every)
    elif every is not None:
        draft.note(key, "once in the middle of the run by default (hooks.sample_generation.interval)")
    key, length = hook.full_name("max_new_tokens"), hook.read(count, "max_new_tokens")
    if length is not None:
        draft.take(key, "hooks.sample_generation.max_new_tokens", length)
    if isinstance(system, Name):
        hook.pop("system")
        why = f"{system.last}: write the text as system of each question in eval_prompts"
        draft.miss(hook.full_name("system"), why)
    hook.note("system of each question in eval_prompts", "system")
    hook.note("that of the encoder", "image_processor")
    hook.miss("give each question its image: dict(question=..., image=FILE)", "evaluation_images")


def names_of_lines(value: object) -> list[str]:
    """Return a list of texts, which may have commas."""
    if not isinstance(value, list):
        raise ValueError("a list of questions")
    return [item for item in value if isinstance(item, str)]


def _rest(values: Arguments) -> None:
    draft, seed = values.draft, values.section("randomness")
    if seed.take("seed", whole, "seed") is None:
        draft.note("randomness.seed", "seed = 0: XTuner draws one")
    if values.pop("visualizer") is not None:
        how = "tensorboard; `xft list loggers` shows others"
        draft.change("visualizer", how, "loggers.tensorboard", {})
    values.miss(
        "a checkpoint of XTuner is not read: model.path takes a folder of Hugging Face", "load_from"
    )
    values.note("`--deepspeed` and section strategy shard", "strategy")
    values.take("work_dir", text, "work_dir")
    tokenizer = values.section("tokenizer")
    path = tokenizer.read(label, "pretrained_model_name_or_path")
    is_llava = draft.get("model.train") is not None
    if path is not None and path != draft.get("model.path") and not is_llava:
        draft.take(tokenizer.full_name("pretrained_model_name_or_path"), "model.tokenizer", path)
    elif path is not None:
        draft.note(tokenizer.full_name("pretrained_model_name_or_path"), "that of the model")
    if tokenizer.is_on("trust_remote_code"):
        draft.change(tokenizer.full_name("trust_remote_code"), REMOTE_CODE)
    values.miss(
        "no other part of the config uses it", *(key for key in values.unread if key not in _CONFIG_KEYS)
    )
