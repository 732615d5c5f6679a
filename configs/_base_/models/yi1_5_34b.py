"""Yi-1.5-34B-Chat. Apache-2.0. 34.4 B parameters.
Memory without activations: QLoRA 27 GB, LoRA 71 GB, full 550 GB."""

model = dict(type="causal_lm", path="01-ai/Yi-1.5-34B-Chat", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="llama",
    vocab_size=64000,
    hidden_size=7168,
    intermediate_size=20480,
    num_hidden_layers=60,
    num_attention_heads=56,
    num_key_value_heads=8,
)
