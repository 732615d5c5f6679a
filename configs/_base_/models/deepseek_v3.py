"""DeepSeek-V3-0324. MIT. 671 B parameters.
Memory without activations: QLoRA 357 GB, LoRA 1,344 GB, full 10,736 GB."""

model = dict(type="causal_lm", path="deepseek-ai/DeepSeek-V3-0324", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="deepseek_v3",
)
