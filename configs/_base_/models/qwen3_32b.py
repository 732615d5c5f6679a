"""Qwen3-32B. Apache-2.0. 32.8 B parameters.
Memory without activations: QLoRA 28 GB, LoRA 68 GB, full 524 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3-32B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3",
    hidden_size=5120,
    intermediate_size=25600,
    num_hidden_layers=64,
    num_attention_heads=64,
    num_key_value_heads=8,
    head_dim=128,
)
