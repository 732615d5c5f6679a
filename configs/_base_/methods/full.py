"""All weights, on your own rows. Matrix products are in bf16; weights and optimizer state in fp32."""

from mmengine.config import read_base

with read_base():
    from ..adapters.full import *
    from ..data.alpaca import *
    from ..schedules.cosine import *

data.update(path="my_rows.jsonl")
optimizer.update(lr=1e-5)
