"""ERNIE-4.5-0.3B. Apache-2.0. 0.361 B parameters.
Memory without activations: QLoRA 0.7 GB, LoRA 0.8 GB, full 5.8 GB."""

model = dict(type="causal_lm", path="baidu/ERNIE-4.5-0.3B-PT", gradient_checkpointing=True)
template = "auto"
_architecture = dict(
    model_type="ernie4_5",
)
