"""Ministral-3-8B-Instruct-2512. Apache-2.0. 8.49 B parameters.
Memory without activations: QLoRA 8.8 GB, LoRA 18 GB, full 136 GB."""

model = dict(
    type="causal_lm", path="mistralai/Ministral-3-8B-Instruct-2512-BF16", gradient_checkpointing=True
)
template = "auto"
_architecture = dict(
    model_type="ministral3",
)
