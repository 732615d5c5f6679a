"""LoRA on your own rows, on a base in 16 bits."""

from mmengine.config import read_base

with read_base():
    from ..adapters.lora import *
    from ..data.alpaca import *
    from ..schedules.cosine import *

data.update(path="my_rows.jsonl")
