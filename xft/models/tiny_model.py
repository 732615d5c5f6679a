"""Build tiny models: small fp32 models with random weights, to measure the attention of a model class.

A tiny model has few layers and heads, a small vocabulary and short windows, but each kind of layer of the
original config. Its weights are large enough that each part of the attention (sinks, soft caps, windows)
changes the logits.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

MAX_PARAMS = 60_000_000
"""Maximum size of a tiny model. A larger one means that the class reads sizes unknown to :func:`tiny_config`."""
VOCAB_SIZE = 128
_LAYERS = 4
_HEADS = 4
_WIDE_HEAD = 192
_WINDOW = 4
"""Shorter than the measured samples, so that windows, chunks and sparse selections change the logits."""

_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_HEAD_COUNTS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
_HIDDEN_SIZES = ("hidden_size", "n_embd", "d_model", "dim")
_UPPER_BOUNDS = {
    "vocab_size": VOCAB_SIZE, "vocab_size_per_layer_input": VOCAB_SIZE, "hidden_size_per_layer_input": 8,
    "intermediate_size": 96, "n_inner": 96, "ffn_dim": 96, "decoder_ffn_dim": 96, "ffn_hidden_size": 96,
    "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32, "expert_ffn_hidden_size": 32,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "zero_expert_num": 1,
    "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_topk": 2, "moe_k": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "num_dense_layers": 1, "num_kv_shared_layers": 0, "q_lora_rank": 24, "kv_lora_rank": 16,
    "sliding_window": _WINDOW, "attention_chunk_size": _WINDOW, "index_topk": _WINDOW, "window_size": _WINDOW,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "index_n_heads": 2,
}  # fmt: skip
"""Upper bound of each config field in a tiny model."""
_DROPPED = (
    "model_type",
    "transformers_version",
    "architectures",
    "dtype",
    "_name_or_path",
    "quantization_config",
)


def tiny_config(config: PretrainedConfig) -> PretrainedConfig:
    """Return a config of the same class with small sizes.

    Head dimensions are unchanged, because rotary embeddings and norms depend on them.
    """
    old = config.to_dict()
    new = {name: value for name, value in old.items() if name not in _DROPPED}
    layers = _kept_layers(old)
    for name, value in old.items():
        if name.endswith("_token_id"):
            # Ids can exceed the vocabulary of the tiny model. A list (of several stop ids) is dropped.
            new[name] = min(value, VOCAB_SIZE - 1) if isinstance(value, int) else None
        elif isinstance(value, list) and len(value) == _layer_count(old):
            new[name] = [value[layer] for layer in layers]
        elif name == "per_layer_config" and value:
            kept = {int(key): options for key, options in value.items() if int(key) in layers}
            new[name] = {layers.index(layer): options for layer, options in kept.items()}
    for name, limit in _UPPER_BOUNDS.items():
        if isinstance(new.get(name), list):
            new[name] = [min(size, limit) for size in new[name]]
        elif type(old.get(name)) is int:
            new[name] = min(old[name], limit)
    for name in _LAYER_COUNTS:
        if type(old.get(name)) is int:
            new[name] = min(old[name], _LAYERS)
    _shrink_heads(old, new)
    return type(config)(**new)


def _layer_count(sizes: dict[str, Any]) -> int:
    return next((sizes[name] for name in _LAYER_COUNTS if type(sizes.get(name)) is int), 0)


def _kept_layers(sizes: dict[str, Any]) -> list[int]:
    """Return the layers that a tiny model keeps: the first of each kind, then the first others up to ``_LAYERS``.

    The kind of a layer consists of its elements in all lists of the config that have one element per layer.
    """
    count = _layer_count(sizes)
    lists = [value for value in sizes.values() if isinstance(value, list) and len(value) == count]
    kinds = [tuple(str(value[layer]) for value in lists) for layer in range(count)]
    first = [layer for layer, kind in enumerate(kinds) if kind not in kinds[:layer]][:_LAYERS]
    more = [layer for layer in range(count) if layer not in first]
    return sorted([*first, *more[: max(0, _LAYERS - len(first))]])


def _shrink_heads(old: dict[str, Any], new: dict[str, Any]) -> None:
    heads = next((old[name] for name in _HEAD_COUNTS if type(old.get(name)) is int), None)
    if heads is None:
        return
    hidden = next((old[name] for name in _HIDDEN_SIZES if type(old.get(name)) is int), 0)
    count = min(heads, _HEADS if hidden // heads < _WIDE_HEAD else _HEADS // 2)
    for name in _HEAD_COUNTS:
        if type(old.get(name)) is int:
            new[name] = count
    for name, value in old.items():
        if name.endswith(("num_key_value_heads", "num_kv_heads", "n_head_kv")) and type(value) is int:
            new[name] = count if value == heads else min(value, max(1, count // 2))
    for name in _HIDDEN_SIZES:
        if type(old.get(name)) is int:
            new[name] = old[name] // heads * count if old[name] % heads == 0 else min(old[name], 64 * count)
    small = next((new[name] for name in _HIDDEN_SIZES if type(new.get(name)) is int), None)
    for prefix in ("mamba_", ""):
        width = old.get(f"{prefix}d_head") or old.get(f"{prefix}head_dim")
        if f"{prefix}n_heads" in old and f"{prefix}expand" in old and width and small:
            new[f"{prefix}n_heads"] = old[f"{prefix}expand"] * small // width


def build_tiny_model(
    model_class: type[PreTrainedModel], config: PretrainedConfig, attention: str
) -> PreTrainedModel:
    """Build a tiny model with random weights, which depend only on the config.

    Args:
        model_class: class of the model.
        config: result of :func:`tiny_config`; it is copied.
        attention: ``attn_implementation`` of the tiny model.

    Raises:
        ValueError: the tiny model has more than :data:`MAX_PARAMS` parameters, or the class rejects ``attention``.
    """
    config = deepcopy(config)
    config._attn_implementation = attention
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class(deepcopy(config)).parameters())
    if size > MAX_PARAMS:
        raise ValueError(f"a tiny model of {size:,} parameters")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # Call the class, because ``from_config`` shards weights while DeepSpeed ZeRO-3 is enabled.
        model = model_class(config).float().eval()
        _randomize(model)
    return model


@torch.no_grad()
def _randomize(model: nn.Module) -> None:
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape)
        if parameter.ndim >= 2:
            parameter.copy_(1.5 * noise / parameter.shape[-1] ** 0.5)
        else:
            parameter.add_(0.3 * noise)
