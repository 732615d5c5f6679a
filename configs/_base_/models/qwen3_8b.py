"""Qwen3-8B. Apache-2.0. 8.19 B parameters.
Memory without activations: QLoRA 8.9 GB, LoRA 17 GB, full 131 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3-8B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3",
    hidden_size=4096,
    intermediate_size=12288,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
)
