"""Qwen2.5-VL-7B-Instruct, QLoRA of its language model on your own images: one 24 GB GPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.qwen2_5_vl_7b import *
    from ._base_.adapters.qlora import *
    from ._base_.data.images import *
    from ._base_.schedules.cosine import *

data.update(path="my_rows.jsonl")
