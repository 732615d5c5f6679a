"""InternLM2.5-20B-Chat. InternLM license. 19.9 B parameters.
Memory without activations: QLoRA 17 GB, LoRA 41 GB, full 318 GB."""

model = dict(type="causal_lm", path="internlm/internlm2_5-20b-chat", gradient_checkpointing=True)
template = "internlm2_chat"
_architecture = dict(
    model_type="internlm2",
    vocab_size=92544,
    hidden_size=6144,
    intermediate_size=16384,
    num_hidden_layers=48,
    num_attention_heads=48,
    num_key_value_heads=8,
    bias=False,
)
