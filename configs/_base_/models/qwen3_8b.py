"""Qwen3-8B."""

model = dict(type="causal_lm", path="Qwen/Qwen3-8B", gradient_checkpointing=True)
template = "auto"
