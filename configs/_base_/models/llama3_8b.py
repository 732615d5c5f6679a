"""Llama-3-8B-Instruct."""

model = dict(type="causal_lm", path="meta-llama/Meta-Llama-3-8B-Instruct", gradient_checkpointing=True)
template = "auto"
