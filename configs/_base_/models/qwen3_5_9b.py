"""Qwen3.5-9B. Apache-2.0. 8.95 B parameters.
Memory without activations: QLoRA 10 GB, LoRA 19 GB, full 143 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3.5-9B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3_5_text",
)
