"""Tables of the arguments that tools share: which are copied, which need no value, which only print."""

from collections.abc import Callable, Mapping

from xft.migration.values import count, number, switch, text, whole


def _positive(value: object) -> float | None:
    return number(value) or None


def _limit(value: object) -> int | None:
    return max(whole(value), 0) or None


def _compile(value: object) -> bool:
    return value == "auto" or switch(value)  # axolotl compiles with "auto" wherever torch can


COPIED: Mapping[str, Callable[[object], object]] = {
    "training.micro_batch_size": count,
    "training.gradient_accumulation_steps": count,
    "training.epochs": number,
    "training.max_steps": _limit,
    "training.max_grad_norm": _positive,
    "optimizer.lr": number,
    "optimizer.weight_decay": number,
    "optimizer.eps": number,
    "adapter.lora_dropout": number,
    "adapter.use_dora": switch,
    "adapter.use_rslora": switch,
    "adapter.loraplus_lr_ratio": number,
    "model.neftune_alpha": _positive,
    "model.router_aux_loss_coef": number,
    "model.tokenizer": text,
    "model.torch_compile": _compile,
    "objective.label_smoothing": number,
    "objective.desirable_weight": number,
    "objective.undesirable_weight": number,
    "objective.nll_weight": number,
    "objective.cpo_alpha": number,
    "objective.gamma": number,
    "objective.precompute_ref_log_probs": switch,
    "objective.mask_truncated_completions": switch,
    "hooks.checkpoint.save_total_limit": _limit,
    "hooks.checkpoint.load_best_model_at_end": switch,
    "hooks.checkpoint.greater_is_better": switch,
    "hooks.validation.batch_size": count,
    "hooks.early_stopping.patience": count,
    "seed": whole,
    "work_dir": text,
}
"""Keys of xft whose value is that of the other tool, and the type of the value. ``None`` turns a limit off."""
KEYS: Mapping[str, str] = {
    "mask_truncated_completions": "objective.mask_truncated_completions",
    "early_stopping_steps": "hooks.early_stopping.patience",
    "adam_eps": "optimizer.eps",
}
"""Places of keys that ``FOREIGN_KEYS`` does not have, since they mean nothing outside of an import."""
_ATTENTION = "xft selects the fastest exact attention (model.attn_implementation)"
_PREPARED = "data is prepared before the run, with a process per core (data.num_workers)"
_CACHED = "prepared data is cached (data.cache_dir)"
_KERNELS = "fused kernels are built in (model.fused_kernels)"
_PRECISION = "the hardware decides (model.dtype)"
_GENERATION = "of generation, which has no part in the training"
IGNORED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("attn_implementation", "flash_attn", "flash_attention", "sdp_attention"),
            *("xformers_attention", "flex_attention", "eager_attention"),
        ),
        _ATTENTION,
    ),
    **dict.fromkeys(
        (
            *("dataset_num_proc", "preprocessing_num_workers", "preprocessing_batch_size"),
            *("dataset_processes", "dataset_keep_in_memory", "dataloader_num_workers"),
            *("dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
        ),
        _PREPARED,
    ),
    **dict.fromkeys(("dataset_prepared_path", "overwrite_cache", "tokenized_path"), _CACHED),
    **dict.fromkeys(
        (
            *("enable_liger_kernel", "use_liger_kernel", "use_liger", "cut_cross_entropy"),
            *("use_kernels", "use_unsloth", "use_v1_kernels", "kernel_config", "liger_kernel_config"),
        ),
        _KERNELS,
    ),
    **dict.fromkeys(
        ("bf16", "tf32", "fp16", "half_precision_backend", "bf16_full_eval", "fp16_full_eval"),
        _PRECISION,
    ),
    **dict.fromkeys(
        (
            *("predict_with_generate", "max_new_tokens", "do_sample", "num_beams", "eval_num_beams"),
            *("generation_max_length", "generation_num_beams", "infer_backend", "infer_dtype"),
            *("use_kv_cache", "sample_backend", "eval_max_new_tokens", "eval_table_size"),
        ),
        _GENERATION,
    ),
    "resume_from_checkpoint": "option --resume",
    "auto_resume_from_checkpoints": "option --resume",
    "use_unsloth_gc": "recomputation of activations is chosen by the memory (model.gradient_checkpointing)",
    "resize_vocab": "embeddings are resized to the tokens of the tokenizer",
    "compute_accuracy": "the validation reports the accuracy of tokens",
    "model_max_length": "data.max_length limits the rows",
}
"""Keys that need no value in xft, and why."""
IGNORED_PREFIXES: Mapping[str, str] = {
    **dict.fromkeys(("liger_", "lora_mlp_", "lora_qkv_", "lora_o_", "flash_attn_", "unsloth_"), _KERNELS),
    **dict.fromkeys(("vllm_", "sglang_", "gradio_"), _GENERATION),
    "flex_attn_": _ATTENTION,
}
SILENT = frozenset(
    (
        *("do_train", "do_eval", "do_predict", "plot_loss", "overwrite_output_dir", "logging_steps"),
        *("logging_dir", "logging_strategy", "logging_first_step", "logging_nan_inf_filter"),
        *("log_level", "log_level_replica", "log_on_each_node", "disable_tqdm", "print_param_status"),
        *("include_num_input_tokens_seen", "include_tokens_per_second"),
        *("include_effective_tokens_per_second", "skip_memory_metrics", "remove_unused_columns"),
        *("label_names", "save_safetensors", "strict", "debug", "gradient_checkpointing_kwargs"),
        *("activation_checkpointing_kwargs", "gradient_checkpointing_use_reentrant"),
        *("use_reentrant_gc", "low_cpu_mem_usage", "cache_dir", "tokenizer_type", "model_type"),
        *("is_llama_derived_model", "is_mistral_derived_model", "is_falcon_derived_model"),
        *("is_qwen_derived_model", "tokenizer_use_fast", "tokenizer_legacy", "use_fast_tokenizer"),
        *("local_rank", "device_map", "ddp_find_unused_parameters", "ddp_bucket_cap_mb"),
        *("ddp_broadcast_buffers", "pad_to_sequence_len", "pad_to_multiple_of"),
        *("ignore_pad_token_for_loss", "use_cache", "gc_steps", "torch_empty_cache_steps"),
        *("dataset_dir", "axolotl_config_path"),
    )
)
"""Keys that only print, or choose how the other tool loads what xft loads anyway. They have no entry."""
