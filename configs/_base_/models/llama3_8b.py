"""Llama-3-8B-Instruct. Llama 3 license. 8.03 B parameters.
Memory without activations: QLoRA 8.4 GB, LoRA 17 GB, full 128 GB."""

model = dict(type="causal_lm", path="meta-llama/Meta-Llama-3-8B-Instruct", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="llama",
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
