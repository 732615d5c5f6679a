"""Gemma 3 1B. Gemma terms. 1 B parameters.
Memory without activations: QLoRA 1.8 GB, LoRA 2.2 GB, full 16 GB."""

model = dict(type="causal_lm", path="google/gemma-3-1b-it", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="gemma3_text",
    vocab_size=262144,
    hidden_size=1152,
    intermediate_size=6912,
    num_hidden_layers=26,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=256,
)
