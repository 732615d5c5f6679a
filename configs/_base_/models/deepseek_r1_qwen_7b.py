"""DeepSeek-R1-Distill-Qwen-7B. MIT. 7.62 B parameters.
Memory without activations: QLoRA 8.1 GB, LoRA 16 GB, full 122 GB."""

model = dict(type="causal_lm", path="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="qwen2",
    vocab_size=152064,
    hidden_size=3584,
    intermediate_size=18944,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
)
