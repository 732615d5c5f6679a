"""gpt-oss-20b. Apache-2.0. 20.9 B parameters.
Memory without activations: QLoRA 13 GB, LoRA 42 GB, full 335 GB."""

model = dict(type="causal_lm", path="openai/gpt-oss-20b", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="gpt_oss",
    num_hidden_layers=24,
    num_local_experts=32,
)
