"""Llama-3.2-1B-Instruct. Llama 3.2 license. 1.24 B parameters.
Memory without activations: QLoRA 1.7 GB, LoRA 2.7 GB, full 20 GB."""

model = dict(type="causal_lm", path="meta-llama/Llama-3.2-1B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="llama",
    vocab_size=128256,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=64,
    tie_word_embeddings=True,
)
