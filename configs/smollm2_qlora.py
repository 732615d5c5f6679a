"""SmolLM2-135M in NF4, QLoRA on a hundred hand-made rows: on a CPU too."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.smollm2 import *
    from ._base_.adapters.qlora import *
    from ._base_.data.facts import *
    from ._base_.schedules.cosine import *

adapter.update(r=16, lora_alpha=32, lora_dropout=0.0)
training.update(epochs=7, micro_batch_size=2, gradient_accumulation_steps=1)
optimizer.update(lr=2e-3)
