"""InternLM3-8B-Instruct."""

model = dict(type="causal_lm", path="internlm/internlm3-8b-instruct", gradient_checkpointing=True)
template = "internlm2_chat"
