"""MiniCPM3-4B. MiniCPM license. 4.07 B parameters.
Memory without activations: QLoRA 5.4 GB, LoRA 8.9 GB, full 65 GB."""

model = dict(type="causal_lm", path="openbmb/MiniCPM3-4B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="minicpm3",
)
