"""Yi-1.5-9B-Chat. Apache-2.0. 8.83 B parameters.
Memory without activations: QLoRA 8.8 GB, LoRA 19 GB, full 141 GB."""

model = dict(type="causal_lm", path="01-ai/Yi-1.5-9B-Chat", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="llama",
    vocab_size=64000,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=48,
    num_attention_heads=32,
    num_key_value_heads=4,
)
