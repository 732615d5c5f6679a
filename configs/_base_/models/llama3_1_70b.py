"""Llama-3.1-70B-Instruct. Llama 3.1 license. 70.6 B parameters.
Memory without activations: QLoRA 53 GB, LoRA 144 GB, full 1,129 GB."""

model = dict(type="causal_lm", path="meta-llama/Llama-3.1-70B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="llama",
    vocab_size=128256,
    hidden_size=8192,
    intermediate_size=28672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
)
