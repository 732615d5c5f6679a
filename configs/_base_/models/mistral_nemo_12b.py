"""Mistral-Nemo-Instruct-2407. Apache-2.0. 12.2 B parameters.
Memory without activations: QLoRA 12 GB, LoRA 25 GB, full 196 GB."""

model = dict(type="causal_lm", path="mistralai/Mistral-Nemo-Instruct-2407", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="mistral",
    vocab_size=131072,
    hidden_size=5120,
    intermediate_size=14336,
    num_hidden_layers=40,
    num_attention_heads=32,
    num_key_value_heads=8,
    head_dim=128,
)
