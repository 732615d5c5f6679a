"""Granite 4.0 Micro. Apache-2.0. 3.4 B parameters.
Memory without activations: QLoRA 4.0 GB, LoRA 7.3 GB, full 54 GB."""

model = dict(type="causal_lm", path="ibm-granite/granite-4.0-micro", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="granitemoehybrid",
    vocab_size=100352,
    hidden_size=2560,
    intermediate_size=8192,
    shared_intermediate_size=8192,
    num_hidden_layers=40,
    num_attention_heads=40,
    num_key_value_heads=8,
    num_local_experts=0,
    num_experts_per_tok=0,
    tie_word_embeddings=True,
    layer_types=["attention"] * 40,
)
