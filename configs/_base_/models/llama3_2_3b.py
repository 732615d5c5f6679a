"""Llama-3.2-3B-Instruct. Llama 3.2 license. 3.21 B parameters.
Memory without activations: QLoRA 3.8 GB, LoRA 6.8 GB, full 51 GB."""

model = dict(type="causal_lm", path="meta-llama/Llama-3.2-3B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="llama",
    vocab_size=128256,
    hidden_size=3072,
    intermediate_size=8192,
    num_hidden_layers=28,
    num_attention_heads=24,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)
