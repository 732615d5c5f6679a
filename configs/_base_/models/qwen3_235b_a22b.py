"""Qwen3-235B-A22B. Apache-2.0. 235 B parameters.
Memory without activations: QLoRA 126 GB, LoRA 471 GB, full 3,761 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3-235B-A22B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3_moe",
    hidden_size=4096,
    intermediate_size=12288,
    moe_intermediate_size=1536,
    num_hidden_layers=94,
    num_attention_heads=64,
    num_key_value_heads=4,
    head_dim=128,
    num_experts=128,
    num_experts_per_tok=8,
)
