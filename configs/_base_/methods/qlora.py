"""QLoRA on your own rows."""

from mmengine.config import read_base

with read_base():
    from ..adapters.qlora import *
    from ..data.alpaca import *
    from ..schedules.cosine import *

data.update(path="my_rows.jsonl")
