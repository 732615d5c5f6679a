"""Tiny mixture-of-experts models of several families, with the layouts of experts and routers that transformers has."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

NUM_EXPERTS = 4
_SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "num_experts_per_tok": 2, "bos_token_id": 1, "eos_token_id": 1,
    "pad_token_id": 0,
}  # fmt: skip
_SHARED = {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 24, "num_experts": NUM_EXPERTS}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"moe_intermediate_size": 16, "num_experts": NUM_EXPERTS},
    "qwen2_moe": _SHARED,
    "mixtral": {"num_local_experts": NUM_EXPERTS},
    "gpt_oss": {"num_local_experts": NUM_EXPERTS, "sliding_window": 8},
    "olmoe": {"num_experts": NUM_EXPERTS},
    "granitemoe": {"num_local_experts": NUM_EXPERTS},
    "phimoe": {"num_local_experts": NUM_EXPERTS},
    "deepseek_v3": {
        "moe_intermediate_size": 16, "n_routed_experts": NUM_EXPERTS, "n_group": 1, "topk_group": 1,
        "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
        "v_head_dim": 8, "num_key_value_heads": 4,
    },
    "llama4_text": {"num_local_experts": NUM_EXPERTS, "num_experts_per_tok": 1, "intermediate_size_mlp": 48, "moe_layers": [0, 1]},
    "qwen3_next": {**_SHARED, "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
                   "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "qwen3_5_moe_text": {**_SHARED, "num_hidden_layers": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
                         "linear_key_head_dim": 8, "linear_value_head_dim": 8},
}  # fmt: skip
"""Options of each family besides the common sizes."""


def mixture(family: str, std: float = 0.15, **options: Any) -> Any:
    """A model of a family with the same random weights at each call."""
    config = AutoConfig.for_model(family, **{**_SIZES, **FAMILIES[family], **options})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).eval()
        for param in model.parameters():
            if param.ndim > 1:
                torch.nn.init.normal_(param, std=std)
    return model


def train_adapter(model: Any) -> Any:
    """Give A and B of an adapter the same values at each call, as training does."""
    generator = torch.Generator().manual_seed(1)
    for name, param in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(param, std=0.1, generator=generator)
    return model.eval()
