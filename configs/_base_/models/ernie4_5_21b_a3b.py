"""ERNIE-4.5-21B-A3B. Apache-2.0. 21.8 B parameters.
Memory without activations: QLoRA 13 GB, LoRA 44 GB, full 349 GB."""

model = dict(type="causal_lm", path="baidu/ERNIE-4.5-21B-A3B-PT", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="ernie4_5_moe",
)
