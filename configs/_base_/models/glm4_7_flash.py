"""GLM-4.7-Flash. MIT. 29.9 B parameters.
Memory without activations: QLoRA 18 GB, LoRA 60 GB, full 479 GB."""

model = dict(type="causal_lm", path="zai-org/GLM-4.7-Flash", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="glm4_moe_lite",
)
