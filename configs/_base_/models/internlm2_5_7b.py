"""InternLM2.5-7B-Chat. InternLM license. 7.74 B parameters.
Memory without activations: QLoRA 7.8 GB, LoRA 16 GB, full 124 GB."""

model = dict(type="causal_lm", path="internlm/internlm2_5-7b-chat", gradient_checkpointing=True)
template = "internlm2_chat"
_architecture = dict(
    model_type="internlm2",
    vocab_size=92544,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    bias=False,
)
