"""LoRA on all linear layers of a base in 16 bits."""

adapter = dict(type="lora", r=16, lora_alpha=32, lora_dropout=0.0)
