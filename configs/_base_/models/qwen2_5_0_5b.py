"""Qwen2.5-0.5B-Instruct. Apache-2.0. 0.494 B parameters.
Memory without activations: QLoRA 1.0 GB, LoRA 1.1 GB, full 7.9 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen2.5-0.5B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
