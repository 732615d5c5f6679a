"""InternLM2.5-1.8B-Chat. InternLM license. 1.89 B parameters.
Memory without activations: QLoRA 2.6 GB, LoRA 4.1 GB, full 30 GB."""

model = dict(type="causal_lm", path="internlm/internlm2_5-1_8b-chat", gradient_checkpointing=True)
template = "internlm2_chat"
_architecture = dict(
    model_type="internlm2",
    vocab_size=92544,
    hidden_size=2048,
    intermediate_size=8192,
    num_hidden_layers=24,
    num_attention_heads=16,
    num_key_value_heads=8,
    bias=False,
)
