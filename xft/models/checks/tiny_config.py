"""Configs of tiny models: few layers and heads, a small vocabulary and short windows, but each kind of layer."""

from math import gcd
from typing import Any

from transformers import PretrainedConfig

VOCAB_SIZE = 128
_LAYERS = 4
_HEADS = 4
_WIDE_HEAD = 192
_WINDOW = 4
"""Shorter than the measured samples, so that windows, chunks and sparse selections change the logits."""

_ORIGINAL_LENGTH = 10
"""Number of pretrained positions, between the lengths of the measured samples."""
_LAYER_COUNTS = (
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers", "num_blocks",
    "num_decoder_layers", "num_encoder_layers",
)  # fmt: skip
_HEAD_COUNTS = (
    "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads",
    "num_decoder_attention_heads", "num_encoder_attention_heads",
)  # fmt: skip
_HIDDEN_SIZES = ("hidden_size", "n_embd", "d_model", "dim", "emb_dim")
_PROPORTIONAL = (
    "attention_hidden_size",
    "embedding_dim",
    "mamba_headdim",
    "mamba_dt_rank",
    "attention_head_dim",
)
"""Widths that some families define as multiples of the hidden size."""
_UPPER_BOUNDS = {
    "vocab_size": VOCAB_SIZE, "vocab_size_per_layer_input": VOCAB_SIZE, "hidden_size_per_layer_input": 8,
    "intermediate_size": 96, "n_inner": 96, "ffn_dim": 96, "decoder_ffn_dim": 96, "ffn_hidden_size": 96,
    "encoder_ffn_dim": 96, "dim_ff": 96, "feed_forward_size": 96, "shared_intermediate_size": 32,
    "intermediate_size_mlp": 96, "moe_shared_expert_intermediate_size": 32, "adapter_rank": 8, "prompt_length": 4,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "expert_ffn_hidden_size": 32,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "zero_expert_num": 1,
    "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_topk": 2, "moe_k": 2, "n_group": 1, "topk_group": 1,
    "num_expert_group": 1, "first_k_dense_replace": 1, "num_dense_layers": 1, "num_kv_shared_layers": 0,
    "q_lora_rank": 24, "kv_lora_rank": 16, "sliding_window": _WINDOW, "attention_chunk_size": _WINDOW,
    "index_topk": _WINDOW, "window_size": _WINDOW, "floor_scale": _WINDOW,
    "mamba_chunk_size": _WINDOW, "chunk_size": _WINDOW, "mamba_d_state": 8, "ssm_state_size": 8, "state_size": 8,
    "mamba_d_ssm": 64, "mamba_num_heads": 4, "n_groups": 2, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "linear_num_heads": 4, "index_n_heads": 16, "attn_layer_period": 2, "attn_layer_offset": 1,
    "expert_layer_period": 2, "expert_layer_offset": 1, "layer_group_size": 2,
}  # fmt: skip
"""Upper bound of each config field in a tiny model.

An indexer has 16 heads: with few, the score of many tokens is exactly 0, and ties are not broken by the sample alone.
"""
_STEPS = ("period", "interval", "step", "freq", "group_size", "pattern", "attention_types", "num_kv_shared")
"""Parts of the names of fields that make every n-th layer another kind."""
_DROPPED = (
    "model_type",
    "transformers_version",
    "architectures",
    "dtype",
    "_name_or_path",
    "quantization_config",
    "hybrid_layer_ids",  # Zamba 2 derives them from the kinds of the layers.
)


def tiny_config(config: PretrainedConfig) -> PretrainedConfig:
    """Return a config of the same class with small sizes.

    Head dimensions are unchanged, because rotary embeddings and norms depend on them.
    """
    old = config.to_dict()
    new = {name: value for name, value in old.items() if name not in _DROPPED}
    layers = _kept_layers(old)
    for name, value in old.items():
        if isinstance(nested := vars(config).get(name), PretrainedConfig):
            new[name] = tiny_config(nested)
        elif name.endswith("_token_id"):
            # Ids can exceed the vocabulary of the tiny model. A list (of several stop ids) is dropped.
            new[name] = min(value, VOCAB_SIZE - 1) if isinstance(value, int) else None
        elif isinstance(value, list) and len(value) == _layer_count(old):
            new[name] = [value[layer] for layer in layers]
        elif name == "per_layer_config" and value:
            kept = {int(key): options for key, options in value.items() if int(key) in layers}
            new[name] = {layers.index(layer): options for layer, options in kept.items()}
        elif name == "attn_layer_indices" and value:
            new[name] = [1]
    for name, limit in _UPPER_BOUNDS.items():
        if isinstance(new.get(name), list):
            new[name] = [min(size, limit) for size in new[name]]
        elif type(old.get(name)) is int:
            new[name] = min(old[name], limit)
    for name in _LAYER_COUNTS:
        if type(old.get(name)) is int:
            new[name] = min(old[name], len(layers) or _LAYERS)
    _shrink_heads(old, new)
    _shorten_rope(new)
    return type(config)(**new)


def _shorten_rope(sizes: dict[str, Any]) -> None:
    """Let a rotary embedding that depends on the length change between the two measured samples."""
    parameters = sizes.get("rope_parameters") or {}
    kinds = [part for part in (parameters, *parameters.values()) if isinstance(part, dict)]
    for part in kinds:
        if part.get("rope_type") == "longrope":
            part["original_max_position_embeddings"] = _ORIGINAL_LENGTH
            if "original_max_position_embeddings" in sizes:  # Phi 3: replaces the other one.
                sizes["original_max_position_embeddings"] = _ORIGINAL_LENGTH
    if any(part.get("rope_type") == "dynamic" for part in kinds):
        sizes["max_position_embeddings"] = _ORIGINAL_LENGTH


def _layer_count(sizes: dict[str, Any]) -> int:
    kinds = sizes.get("layers_block_type") or []
    return next((sizes[name] for name in _LAYER_COUNTS if type(sizes.get(name)) is int), len(kinds))


def _kept_layers(sizes: dict[str, Any]) -> list[int]:
    """Return the layers that a tiny model keeps: the first of each kind, then the first others.

    The kind of a layer consists of its elements in all lists of the config that have one element per layer. Two layers
    are enough for a model whose layers are alike.
    """
    count = _layer_count(sizes)
    lists = [value for value in sizes.values() if isinstance(value, list) and len(value) == count]
    kinds = [tuple(str(value[layer]) for value in lists) for layer in range(count)]
    # Layers that share weights, as those of Zamba do, are at least two.
    copies = 2 if "hybrid" in (sizes.get("layers_block_type") or []) else 1
    first = [layer for layer, kind in enumerate(kinds) if kinds[:layer].count(kind) < copies][:_LAYERS]
    more = [layer for layer in range(count) if layer not in first]
    stepped = any(value and any(step in name for step in _STEPS) for name, value in sizes.items())
    return sorted([*first, *more[: max(0, (_LAYERS if stepped else 2) - len(first))]])


def _shrink_heads(old: dict[str, Any], new: dict[str, Any]) -> None:
    heads = next((old[name] for name in _HEAD_COUNTS if type(old.get(name)) is int), 0)
    hidden = next((old[name] for name in _HIDDEN_SIZES if type(old.get(name)) is int), 0)
    wide = heads and hidden // heads >= _WIDE_HEAD
    count = min(heads, _HEADS // 2 if wide else _HEADS) or 1
    for name in _HEAD_COUNTS:
        if type(old.get(name)) is int:
            new[name] = count
    for name, value in old.items():
        if (
            name.endswith(("num_key_value_heads", "num_kv_heads", "n_head_kv", "num_query_groups"))
            and type(value) is int
        ):
            new[name] = count if value == heads else min(value, max(1, count // 2))
    for name in _HIDDEN_SIZES:
        if type(old.get(name)) is int:
            width = old[name] // heads * count if heads and old[name] % heads == 0 else 64 * count
            new[name] = min(old[name], width)
    small = next((new[name] for name in _HIDDEN_SIZES if type(new.get(name)) is int), 0)
    for name in _PROPORTIONAL:
        if type(old.get(name)) is int and hidden:
            new[name] = max(
                1, old[name] * small // hidden * (heads // count if name == "attention_head_dim" else 1)
            )
    _fit_states(old, new, small)


def _fit_states(old: dict[str, Any], new: dict[str, Any], hidden: int) -> None:
    """Set the number of heads of state-space layers, whose widths are multiples of the hidden size."""
    for heads, width in (
        ("mamba_n_heads", "mamba_d_head"), ("n_heads", "d_head"), ("num_heads", "head_dim"), ("n_mamba_heads", "mamba_headdim"),
    ):  # fmt: skip
        expand = old.get("mamba_expand") or old.get("expand")
        if heads in old and old.get(width) and expand and hidden:
            inner = new.get("mamba_d_ssm") or expand * hidden
            new[width] = gcd(inner, new[width]) if inner % new[width] else new[width]
            new[heads] = inner // new[width]
