"""DPO with QLoRA, on your own pairs."""

from mmengine.config import read_base

with read_base():
    from ..adapters.qlora import *
    from ..data.preference import *
    from ..schedules.cosine import *

data.update(path="my_pairs.jsonl")
objective = dict(type="dpo", beta=0.1)
optimizer.update(lr=5e-6)
