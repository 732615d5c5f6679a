"""Gemma 3 12B. Gemma terms. 11.8 B parameters.
Memory without activations: QLoRA 12 GB, LoRA 25 GB, full 188 GB."""

model = dict(type="causal_lm", path="google/gemma-3-12b-it", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="gemma3_text",
    hidden_size=3840,
    intermediate_size=15360,
    num_hidden_layers=48,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=256,
)
