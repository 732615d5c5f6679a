"""LoRA on all linear layers of a base in 16 bits. Use: ``model.update(_adapter)``."""

_adapter = dict(adapter=dict(type="lora", r=16, alpha=32, dropout=0.0), quantization=None)
