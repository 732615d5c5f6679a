"""SmolLM2-135M, continued pretraining on raw text: every token is trained."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.smollm2 import *
    from ._base_.adapters.lora import *
    from ._base_.data.text import *
    from ._base_.schedules.cosine import *

training.update(gradient_accumulation_steps=1)
optimizer.update(lr=5e-4)
lr_scheduler.update(warmup_ratio=0)
