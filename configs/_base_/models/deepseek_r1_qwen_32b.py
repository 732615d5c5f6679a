"""DeepSeek-R1-Distill-Qwen-32B. MIT. 32.8 B parameters.
Memory without activations: QLoRA 28 GB, LoRA 68 GB, full 524 GB."""

model = dict(type="causal_lm", path="deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=152064,
    hidden_size=5120,
    intermediate_size=27648,
    num_hidden_layers=64,
    num_attention_heads=40,
    num_key_value_heads=8,
)
