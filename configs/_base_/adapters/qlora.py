"""QLoRA: LoRA on all linear layers of a base in NF4."""

adapter = dict(type="lora", r=64, lora_alpha=16, lora_dropout=0.1)
quantization = dict(type="nf4", double_quant=True)
