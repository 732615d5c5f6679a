"""Gemma 3 4B. Gemma terms. 3.88 B parameters.
Memory without activations: QLoRA 4.9 GB, LoRA 8.2 GB, full 62 GB."""

model = dict(type="causal_lm", path="google/gemma-3-4b-it", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="gemma3_text",
    hidden_size=2560,
    intermediate_size=10240,
    num_hidden_layers=34,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=256,
)
