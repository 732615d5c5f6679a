"""SmolLM3-3B. Apache-2.0. 3.08 B parameters.
Memory without activations: QLoRA 3.9 GB, LoRA 6.6 GB, full 49 GB."""

model = dict(type="causal_lm", path="HuggingFaceTB/SmolLM3-3B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="smollm3",
)
