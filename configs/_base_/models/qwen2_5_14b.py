"""Qwen2.5-14B-Instruct. Apache-2.0. 14.8 B parameters.
Memory without activations: QLoRA 14 GB, LoRA 31 GB, full 236 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen2.5-14B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=152064,
    hidden_size=5120,
    intermediate_size=13824,
    num_hidden_layers=48,
    num_attention_heads=40,
    num_key_value_heads=8,
)
