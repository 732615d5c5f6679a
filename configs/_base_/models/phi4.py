"""Phi-4. MIT. 14.7 B parameters.
Memory without activations: QLoRA 13 GB, LoRA 30 GB, full 235 GB."""

model = dict(type="causal_lm", path="microsoft/phi-4", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="phi3",
    vocab_size=100352,
    hidden_size=5120,
    intermediate_size=17920,
    num_hidden_layers=40,
    num_attention_heads=40,
    num_key_value_heads=10,
)
