"""GLM-4.5-Air. MIT. 107 B parameters.
Memory without activations: QLoRA 60 GB, LoRA 214 GB, full 1,710 GB."""

model = dict(type="causal_lm", path="zai-org/GLM-4.5-Air", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="glm4_moe",
    head_dim=128,
)
