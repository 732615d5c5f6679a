"""Gemma 4 E4B. Apache-2.0. 7.46 B parameters.
Memory without activations: QLoRA 12 GB, LoRA 16 GB, full 119 GB."""

model = dict(type="causal_lm", path="google/gemma-4-E4B-it", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="gemma4_text",
    hidden_size=2560,
    intermediate_size=10240,
    num_hidden_layers=42,
    num_attention_heads=8,
    num_key_value_heads=2,
    head_dim=256,
    global_head_dim=512,
    vocab_size=262144,
    hidden_size_per_layer_input=256,
    num_kv_shared_layers=18,
)
