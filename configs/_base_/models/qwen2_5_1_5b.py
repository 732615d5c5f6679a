"""Qwen2.5-1.5B-Instruct. Apache-2.0. 1.54 B parameters.
Memory without activations: QLoRA 2.3 GB, LoRA 3.4 GB, full 25 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen2.5-1.5B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=151936,
    hidden_size=1536,
    intermediate_size=8960,
    num_hidden_layers=28,
    num_attention_heads=12,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
