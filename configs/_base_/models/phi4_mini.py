"""Phi-4-mini-instruct. MIT. 3.84 B parameters.
Memory without activations: QLoRA 4.4 GB, LoRA 8.0 GB, full 61 GB."""

model = dict(type="causal_lm", path="microsoft/Phi-4-mini-instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="phi3",
    vocab_size=200064,
    hidden_size=3072,
    intermediate_size=8192,
    num_hidden_layers=32,
    num_attention_heads=24,
    num_key_value_heads=8,
    tie_word_embeddings=True,
    pad_token_id=199999,
)
