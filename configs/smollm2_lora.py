"""SmolLM2-135M, LoRA on a hundred hand-made rows: minutes on a laptop CPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.smollm2 import *
    from ._base_.adapters.lora import *
    from ._base_.data.facts import *
    from ._base_.schedules.cosine import *

training.update(epochs=7, micro_batch_size=2, gradient_accumulation_steps=1)
optimizer.update(lr=2e-3)
