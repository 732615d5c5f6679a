"""Qwen3-0.6B. Apache-2.0. 0.596 B parameters.
Memory without activations: QLoRA 1.2 GB, LoRA 1.4 GB, full 9.5 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3-0.6B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3",
    hidden_size=1024,
    intermediate_size=3072,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)
