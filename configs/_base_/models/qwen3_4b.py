"""Qwen3-4B. Apache-2.0. 4.02 B parameters.
Memory without activations: QLoRA 4.8 GB, LoRA 8.6 GB, full 64 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3-4B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3",
    hidden_size=2560,
    intermediate_size=9728,
    num_hidden_layers=36,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)
