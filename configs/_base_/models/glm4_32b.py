"""GLM-4-32B-0414. MIT. 32.6 B parameters.
Memory without activations: QLoRA 27 GB, LoRA 67 GB, full 521 GB."""

model = dict(type="causal_lm", path="zai-org/GLM-4-32B-0414", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="glm4",
    hidden_size=6144,
    intermediate_size=23040,
    num_hidden_layers=61,
    num_attention_heads=48,
    num_key_value_heads=2,
    head_dim=128,
)
