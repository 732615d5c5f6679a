"""Qwen2.5-3B-Instruct. Qwen Research license. 3.09 B parameters.
Memory without activations: QLoRA 4.0 GB, LoRA 6.7 GB, full 49 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen2.5-3B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=11008,
    num_hidden_layers=36,
    num_attention_heads=16,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
