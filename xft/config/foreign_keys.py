"""Translate keys of other tools, and earlier keys of xft, to the keys of a config.

A migrated config fails with many unknown keys. For each of them the error names the key in xft: ``cutoff_len: unknown
key; in xft this is data.max_length``. Nothing is renamed silently: units and defaults of other tools differ.

Targets are ``KEY``, ``KEY=VALUE`` or a command-line option, joined by ``and`` or ``or``.
"""

_XFT = {
    "training.batch_size": "training.micro_batch_size",
    "training.accumulation": "training.gradient_accumulation_steps",
    "training.clip": "training.max_grad_norm",
    "training.steps": "training.max_steps",
    "schedule": "lr_scheduler",
    "schedule.warmup": "lr_scheduler.warmup_ratio or lr_scheduler.warmup_steps",
    "lr_scheduler.warmup": "lr_scheduler.warmup_ratio or lr_scheduler.warmup_steps",
    "model.attention": "model.attn_implementation",
    "model.kernels": "model.fused_kernels",
    "model.add_tokens": "model.additional_special_tokens",
    "model.adapter": "adapter",
    "model.adapter.alpha": "adapter.lora_alpha",
    "model.adapter.dropout": "adapter.lora_dropout",
    "model.adapter.init": "adapter.init_lora_weights",
    "model.adapter.rslora": "adapter.use_rslora",
    "model.adapter.dora": "adapter.use_dora",
    "model.adapter.lr_ratio": "adapter.loraplus_lr_ratio",
    "model.quantization": "quantization",
    "model.quantization.double": "quantization.double_quant",
    "model.quantization.storage": "quantization.quant_storage",
    "data.val": "data.val_split",
    "data.over_length": "data.on_overlong",
    "data.invalid": "data.on_invalid",
    "data.duplicates": "data.on_duplicate",
    "data.max_hurt": "data.max_overlong_fraction",
    "data.workers": "data.num_workers",
    "data.cache": "data.cache_dir",
    "data.sets": "data.datasets",
    "data.epochs": "data.max_epochs_per_dataset",
    "objective.cached": "objective.precompute_ref_log_probs",
    "objective.length_normalised": "objective.length_normalized",
    "objective.sft_weight": "objective.nll_weight or objective.cpo_alpha",
    "strategy.zero": "strategy.zero_stage",
    "strategy.json": "strategy.config_file",
    "strategy.autocast": "strategy.mixed_precision",
    "questions": "eval_prompts",
    "hooks.questions": "hooks.sample_generation",
    "hooks.guards": "hooks.training_health",
    "hooks.guards.nonfinite": "hooks.training_health.on_nonfinite",
    "hooks.guards.max_skips": "hooks.training_health.max_skipped_steps",
    "hooks.guards.first_steps": "hooks.training_health.num_sanity_steps",
    "hooks.guards.spike_factor": "hooks.training_health.loss_spike_factor",
    "hooks.guards.spike_window": "hooks.training_health.loss_spike_window",
    "hooks.verify.how": "hooks.verify.mode",
    "hooks.checkpoint.keep": "hooks.checkpoint.save_total_limit",
    "hooks.checkpoint.keep_last_n": "hooks.checkpoint.save_total_limit",
    "hooks.checkpoint.best": "hooks.checkpoint.metric_for_best_model",
    "hooks.checkpoint.monitor": "hooks.checkpoint.metric_for_best_model",
    "hooks.checkpoint.wait": "hooks.checkpoint.async_save",
    "hooks.checkpoint.optimizer": "hooks.checkpoint.save_optimizer_state",
}
"""Earlier keys of xft, as whole paths."""

_XTUNER = {
    "pretrained_model_name_or_path": "model.path",
    "llm": "model",
    "use_varlen_attn": "data.packing",
    "pack_to_max_length": "data.packing",
    "prompt_template": "template",
    "dataset_map_fn": "data.format",
    "train_dataset": "data",
    "data_files": "data.path",
    "batch_size": "training.micro_batch_size",
    "accumulative_counts": "training.gradient_accumulation_steps",
    "dataloader_num_workers": "data.num_workers",
    "max_epochs": "training.epochs",
    "max_iters": "training.max_steps",
    "max_norm": "training.max_grad_norm",
    "optim_type": "optimizer.type",
    "optim_wrapper": "optimizer",
    "param_scheduler": "lr_scheduler",
    **{name: f"optimizer.{name}" for name in ("lr", "betas", "weight_decay")},
    "warmup_ratio": "lr_scheduler.warmup_ratio",
    "save_steps": "hooks.checkpoint.interval",
    "save_total_limit": "hooks.checkpoint.save_total_limit",
    "evaluation_freq": "hooks.sample_generation.interval",
    "evaluation_inputs": "eval_prompts",
    **dict.fromkeys(("custom_hooks", "default_hooks"), "hooks"),
    "quantization_config": "quantization",
    "resume": "--resume",
    "load_from": "model.path",
    "randomness": "seed",
    "visualizer": "loggers",
}

_SAME_NAMES = {
    "training": ("gradient_accumulation_steps", "max_steps", "max_grad_norm"),
    "hooks.checkpoint": ("metric_for_best_model", "greater_is_better", "load_best_model_at_end"),
}
_TRANSFORMERS = {
    **{name: f"{section}.{name}" for section, names in _SAME_NAMES.items() for name in names},
    "model_name_or_path": "model.path",
    "model_name": "model.path",
    "tokenizer_name_or_path": "model.tokenizer",
    "torch_dtype": "model.dtype",
    "per_device_train_batch_size": "training.micro_batch_size",
    "per_device_eval_batch_size": "hooks.validation.batch_size",
    "gradient_checkpointing": "model.gradient_checkpointing",
    "num_train_epochs": "training.epochs",
    "learning_rate": "optimizer.lr",
    "optim": "optimizer.type",
    "adam_epsilon": "optimizer.eps",
    "adam_beta1": "optimizer.betas",
    "adam_beta2": "optimizer.betas",
    "lr_scheduler_type": "lr_scheduler.type",
    "warmup_steps": "lr_scheduler.warmup_steps",
    "logging_steps": "hooks.progress.interval",
    "logging_dir": "work_dir",
    **dict.fromkeys(("eval_strategy", "evaluation_strategy", "eval_steps"), "hooks.validation.interval"),
    "save_strategy": "hooks.checkpoint.interval",
    "save_only_model": "hooks.checkpoint.save_optimizer_state",
    "early_stopping_patience": "hooks.early_stopping.patience",
    "bf16": "model.dtype='bfloat16' or strategy.mixed_precision='bf16'",
    "fp16": "model.dtype='float16'",
    "output_dir": "work_dir",
    "resume_from_checkpoint": "--resume",
    "report_to": "loggers",
    "run_name": "loggers.wandb.name",
    "deepspeed": "strategy.config_file or --deepspeed",
    "ddp_timeout": "strategy.timeout_minutes",
    "neftune_noise_alpha": "model.neftune_alpha",
    "use_liger_kernel": "model.fused_kernels",
    "torch_compile": "model.torch_compile",
    "router_aux_loss_coef": "model.router_aux_loss_coef",
    "output_router_logits": "model.router_aux_loss_coef",
    "dataset_num_proc": "data.num_workers",
}
"""``transformers.TrainingArguments`` and common script arguments."""

_TRL = {
    "max_seq_length": "data.max_length",
    "max_length": "data.max_length",
    "packing": "data.packing",
    "dataset_name": "data.path",
    "dataset_text_field": "data.format",
    "dataset_train_split": "data.split",
    "chat_template_path": "template",
    "beta": "objective.beta",
    "loss_type": "objective.loss",
    "label_smoothing": "objective.label_smoothing",
    "rpo_alpha": "objective.nll_weight",
    "cpo_alpha": "objective.cpo_alpha",
    "simpo_gamma": "objective.gamma",
    "desirable_weight": "objective.desirable_weight",
    "undesirable_weight": "objective.undesirable_weight",
    "precompute_ref_log_probs": "objective.precompute_ref_log_probs",
    "ref_model": "objective.reference",
    "truncation_mode": "data.on_overlong",
    "use_peft": "adapter",
    "peft_config": "adapter",
    "load_in_4bit": "quantization.type='nf4'",
    "load_in_8bit": "quantization.type='int8'",
    "bnb_4bit_quant_type": "quantization.type",
    "bnb_4bit_use_double_quant": "quantization.double_quant",
    "bnb_4bit_quant_storage": "quantization.quant_storage",
    "use_bnb_nested_quant": "quantization.double_quant",
}
"""TRL's configs and the bitsandbytes arguments of transformers."""

_LORA_ARGUMENTS = (
    *("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "use_rslora", "use_dora"),
    *("init_lora_weights", "loraplus_lr_ratio"),
)
_PEFT = {
    **{name: f"adapter.{name}" for name in _LORA_ARGUMENTS},
    "lora_r": "adapter.r",
    "lora_rank": "adapter.r",
    "lora_target_modules": "adapter.target_modules",
    "target_parameters": "adapter.target_modules",
    "lora_modules_to_save": "adapter.modules_to_save",
}

_LLAMA_FACTORY = {
    "stage": "objective.type",
    "finetuning_type": "adapter.type",
    "lora_target": "adapter.target_modules",
    "additional_target": "adapter.modules_to_save",
    "moe_aux_loss_coef": "model.router_aux_loss_coef",
    "pissa_init": "adapter.init_lora_weights",
    "dataset": "data.path",
    "dataset_dir": "data.path",
    "eval_dataset": "data.val_split",
    "cutoff_len": "data.max_length",
    "val_size": "data.val_split",
    "neat_packing": "data.packing",
    "streaming": "data.streaming",
    "overwrite_cache": "data.cache_dir",
    "preprocessing_num_workers": "data.num_workers",
    "flash_attn": "model.attn_implementation",
    "enable_liger_kernel": "model.fused_kernels",
    "disable_gradient_checkpointing": "model.gradient_checkpointing",
    "add_tokens": "model.additional_special_tokens",
    "quantization_bit": "quantization.type",
    "double_quantization": "quantization.double_quant",
    "pref_beta": "objective.beta",
    "pref_ftx": "objective.nll_weight",
    "pref_loss": "objective.loss",
    "dpo_label_smoothing": "objective.label_smoothing",
    "kto_chosen_weight": "objective.desirable_weight",
    "kto_rejected_weight": "objective.undesirable_weight",
}

_AXOLOTL = {
    "base_model": "model.path",
    "tokenizer_config": "model.tokenizer",
    "trust_remote_code": "model.trust_remote_code",
    "special_tokens": "model.additional_special_tokens",
    **dict.fromkeys(
        ("attn_implementation", "flash_attention", "sdp_attention"), "model.attn_implementation"
    ),
    "chat_template": "template",
    "rl": "objective.type",
    "rl_beta": "objective.beta",
    "datasets": "data.path",
    "test_datasets": "data.val_split",
    "val_set_size": "data.val_split",
    "sequence_len": "data.max_length",
    "sample_packing": "data.packing",
    "dataset_prepared_path": "data.cache_dir",
    "dataset_processes": "data.num_workers",
    "excess_length_strategy": "data.on_overlong",
    "micro_batch_size": "training.micro_batch_size",
    "num_epochs": "training.epochs",
    "lora_target_linear": "adapter.target_modules",
    "lora_target_parameters": "adapter.target_modules",
    "peft_use_dora": "adapter.use_dora",
    "peft_use_rslora": "adapter.use_rslora",
    "eval_batch_size": "hooks.validation.batch_size",
    "context_parallel_size": "strategy.sequence_parallel_size",
    "sequence_parallel_degree": "strategy.sequence_parallel_size",
    **{f"wandb_{name}": f"loggers.wandb.{name}" for name in ("project", "name", "entity")},
    "mlflow_tracking_uri": "loggers.mlflow.uri",
    "mlflow_experiment_name": "loggers.mlflow.project",
}

_UNSLOTH = {
    "use_gradient_checkpointing": "model.gradient_checkpointing",
    "full_finetuning": "adapter",
    "random_state": "seed",
}

_MOVED = {
    old.removeprefix("model."): new
    for old, new in _XFT.items()
    if old.startswith("model.") and old.count(".") == 2
}
"""Keys of ``model.adapter`` and ``model.quantization`` in a config that has only moved the sections."""

_SHORT = {
    "epochs": "training.epochs",
    "rank": "adapter.r",
    "data_path": "data.path",
    "model_path": "model.path",
    "method": "--method",
}
"""Keys without their section."""

FOREIGN_KEYS: dict[str, str] = {
    **_SHORT,
    **_UNSLOTH,
    **_AXOLOTL,
    **_LLAMA_FACTORY,
    **_PEFT,
    **_TRL,
    **_TRANSFORMERS,
    **_XTUNER,
    **_XFT,
    **_MOVED,
}
"""Key of another tool, or earlier path in xft, to its place in a config."""


def translate(path: str) -> str | None:
    """Return the place of a foreign key in a config of xft, or ``None`` if it is unknown.

    A whole path has precedence, then the longest known section before it, then its last part alone.
    """
    parts = path.split(".")
    for end in range(len(parts), 1, -1):
        if (target := FOREIGN_KEYS.get(".".join(parts[:end]))) is not None:
            return ".".join([target, *parts[end:]])
    target = FOREIGN_KEYS.get(parts[-1])
    if target is None and (section := FOREIGN_KEYS.get(parts[0])) is not None:
        target = ".".join([section, *parts[1:]])
    return None if target == path else target


def advice(path: str) -> str:
    """Return ``in xft this is KEY`` for a foreign key, and an empty text for any other."""
    target = translate(path)
    return f"in xft this is {target}" if target is not None else ""
