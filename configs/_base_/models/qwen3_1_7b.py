"""Qwen3-1.7B. Apache-2.0. 1.72 B parameters.
Memory without activations: QLoRA 2.5 GB, LoRA 3.7 GB, full 28 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3-1.7B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3",
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)
