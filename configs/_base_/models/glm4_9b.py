"""GLM-4-9B-0414. MIT. 9.4 B parameters.
Memory without activations: QLoRA 9.7 GB, LoRA 20 GB, full 150 GB."""

model = dict(type="causal_lm", path="zai-org/GLM-4-9B-0414", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="glm4",
)
