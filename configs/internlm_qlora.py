"""InternLM3-8B-Instruct, QLoRA on your own rows: one 24 GB GPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.internlm3_8b import *
    from ._base_.adapters.qlora import *
    from ._base_.data.alpaca import *
    from ._base_.schedules.cosine import *

data.update(path="my_rows.jsonl")
