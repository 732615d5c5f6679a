"""Continued pretraining with LoRA, on your own text: every token is a target."""

from mmengine.config import read_base

with read_base():
    from ..adapters.lora import *
    from ..data.text import *
    from ..schedules.cosine import *

data.update(path="my_text.jsonl", max_length=2048)
adapter.update(r=64, lora_alpha=64)
optimizer.update(lr=1e-4)
