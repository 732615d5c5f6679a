"""Qwen3.5-27B. Apache-2.0. 26.9 B parameters.
Memory without activations: QLoRA 25 GB, LoRA 56 GB, full 430 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3.5-27B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3_5_text",
    hidden_size=5120,
    intermediate_size=17408,
    num_hidden_layers=64,
    num_attention_heads=24,
    num_key_value_heads=4,
    linear_num_value_heads=48,
)
