"""Granite 3.3 8B. Apache-2.0. 8.17 B parameters.
Memory without activations: QLoRA 7.7 GB, LoRA 17 GB, full 131 GB."""

model = dict(type="causal_lm", path="ibm-granite/granite-3.3-8b-instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="granite",
    vocab_size=49159,
    hidden_size=4096,
    intermediate_size=12800,
    num_hidden_layers=40,
    num_attention_heads=32,
    num_key_value_heads=8,
    tie_word_embeddings=True,
)
