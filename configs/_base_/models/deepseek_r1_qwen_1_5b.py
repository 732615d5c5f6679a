"""DeepSeek-R1-Distill-Qwen-1.5B. MIT. 1.78 B parameters.
Memory without activations: QLoRA 2.8 GB, LoRA 3.8 GB, full 28 GB."""

model = dict(
    type="causal_lm", path="deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", gradient_checkpointing=True
)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=151936,
    hidden_size=1536,
    intermediate_size=8960,
    num_hidden_layers=28,
    num_attention_heads=12,
    num_key_value_heads=2,
)
