"""Qwen3-30B-A3B. Apache-2.0. 30.5 B parameters.
Memory without activations: QLoRA 18 GB, LoRA 61 GB, full 489 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3-30B-A3B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3_moe",
    hidden_size=2048,
    intermediate_size=6144,
    moe_intermediate_size=768,
    num_hidden_layers=48,
    num_attention_heads=32,
    num_key_value_heads=4,
    head_dim=128,
    num_experts=128,
    num_experts_per_tok=8,
)
