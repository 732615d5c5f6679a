"""KTO with QLoRA, on your own answers with a label, which is true for a desirable one."""

from mmengine.config import read_base

with read_base():
    from ..adapters.qlora import *
    from ..data.preference import *
    from ..schedules.cosine import *

data.update(type="unpaired_preference", path="my_labels.jsonl")
objective = dict(type="kto", beta=0.1)
optimizer.update(lr=5e-6)
