"""InternLM3-8B-Instruct. Apache-2.0. 8.8 B parameters.
Memory without activations: QLoRA 9.5 GB, LoRA 18 GB, full 141 GB."""

model = dict(type="causal_lm", path="internlm/internlm3-8b-instruct", gradient_checkpointing=True)
template = "internlm2_chat"
_architecture = dict(
    model_type="internlm3",
)
