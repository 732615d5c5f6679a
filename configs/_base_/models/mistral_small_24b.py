"""Mistral-Small-24B-Instruct-2501. Apache-2.0. 23.6 B parameters.
Memory without activations: QLoRA 20 GB, LoRA 49 GB, full 377 GB."""

model = dict(
    type="causal_lm", path="mistralai/Mistral-Small-24B-Instruct-2501", gradient_checkpointing=True
)
template = "auto"
_architecture = dict(
    model_type="mistral",
    vocab_size=131072,
    hidden_size=5120,
    intermediate_size=32768,
    num_hidden_layers=40,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
)
