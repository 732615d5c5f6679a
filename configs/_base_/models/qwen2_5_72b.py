"""Qwen2.5-72B-Instruct. Qwen license. 72.7 B parameters.
Memory without activations: QLoRA 55 GB, LoRA 149 GB, full 1,163 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen2.5-72B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=152064,
    hidden_size=8192,
    intermediate_size=29568,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
)
