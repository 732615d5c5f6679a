"""Gemma 3 27B. Gemma terms. 27 B parameters.
Memory without activations: QLoRA 23 GB, LoRA 56 GB, full 432 GB."""

model = dict(type="causal_lm", path="google/gemma-3-27b-it", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="gemma3_text",
    hidden_size=5376,
    intermediate_size=21504,
    num_hidden_layers=62,
    num_attention_heads=32,
    num_key_value_heads=16,
    head_dim=128,
)
