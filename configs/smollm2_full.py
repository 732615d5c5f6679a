"""SmolLM2-135M, all weights trained on a hundred hand-made rows."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.smollm2 import *
    from ._base_.adapters.full import *
    from ._base_.data.facts import *
    from ._base_.schedules.cosine import *

model.update(dtype="float32")
training.update(epochs=6, micro_batch_size=2, gradient_accumulation_steps=1)
optimizer.update(lr=3e-4)
lr_scheduler.update(warmup_steps=2)
