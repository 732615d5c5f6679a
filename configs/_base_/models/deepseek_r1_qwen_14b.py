"""DeepSeek-R1-Distill-Qwen-14B. MIT. 14.8 B parameters.
Memory without activations: QLoRA 14 GB, LoRA 31 GB, full 236 GB."""

model = dict(type="causal_lm", path="deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=152064,
    hidden_size=5120,
    intermediate_size=13824,
    num_hidden_layers=48,
    num_attention_heads=40,
    num_key_value_heads=8,
)
