"""Qwen2.5-32B-Instruct. Apache-2.0. 32.8 B parameters.
Memory without activations: QLoRA 28 GB, LoRA 68 GB, full 524 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen2.5-32B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=152064,
    hidden_size=5120,
    intermediate_size=27648,
    num_hidden_layers=64,
    num_attention_heads=40,
    num_key_value_heads=8,
)
