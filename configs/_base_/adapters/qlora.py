"""QLoRA: LoRA on all linear layers of a base in NF4. Use: ``model.update(_adapter)``."""

_adapter = dict(
    adapter=dict(type="lora", r=64, alpha=16, dropout=0.1),
    quantization=dict(type="nf4", double=True),
)
