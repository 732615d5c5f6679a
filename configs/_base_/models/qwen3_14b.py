"""Qwen3-14B. Apache-2.0. 14.8 B parameters.
Memory without activations: QLoRA 14 GB, LoRA 31 GB, full 236 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3-14B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3",
    hidden_size=5120,
    intermediate_size=17408,
    num_hidden_layers=40,
    num_attention_heads=40,
    num_key_value_heads=8,
    head_dim=128,
)
