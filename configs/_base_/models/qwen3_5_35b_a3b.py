"""Qwen3.5-35B-A3B. Apache-2.0. 34.7 B parameters.
Memory without activations: QLoRA 21 GB, LoRA 70 GB, full 555 GB."""

model = dict(type="causal_lm", path="Qwen/Qwen3.5-35B-A3B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen3_5_moe_text",
)
