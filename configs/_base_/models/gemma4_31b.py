"""Gemma 4 31B. Apache-2.0. 30.7 B parameters.
Memory without activations: QLoRA 26 GB, LoRA 63 GB, full 491 GB."""

model = dict(type="causal_lm", path="google/gemma-4-31B-it", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="gemma4_text",
    hidden_size=5376,
    intermediate_size=21504,
    num_hidden_layers=60,
    num_attention_heads=32,
    num_key_value_heads=16,
    head_dim=256,
    global_head_dim=512,
    num_global_key_value_heads=4,
    attention_k_eq_v=True,
    vocab_size=262144,
    hidden_size_per_layer_input=0,
)
