"""Mistral-7B-Instruct-v0.3. Apache-2.0. 7.25 B parameters.
Memory without activations: QLoRA 6.8 GB, LoRA 15 GB, full 116 GB."""

model = dict(type="causal_lm", path="mistralai/Mistral-7B-Instruct-v0.3", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="mistral",
    vocab_size=32768,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
)
