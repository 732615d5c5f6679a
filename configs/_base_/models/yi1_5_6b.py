"""Yi-1.5-6B-Chat. Apache-2.0. 6.06 B parameters.
Memory without activations: QLoRA 6.2 GB, LoRA 13 GB, full 97 GB."""

model = dict(type="causal_lm", path="01-ai/Yi-1.5-6B-Chat", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="llama",
    vocab_size=64000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=4,
)
