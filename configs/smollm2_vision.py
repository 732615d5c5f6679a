"""SmolLM2-135M that learns to see emoji through EfficientNet-Lite0: minutes on a laptop CPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.smollm2 import *
    from ._base_.adapters.lora import *
    from ._base_.data.emoji import *
    from ._base_.schedules.cosine import *

model.update(
    type="llava",
    vision="xft://efficientnet-lite0",
    train=dict(vision="full", projector="full"),
    lr=dict(vision=2e-5),
)
training.update(epochs=2, micro_batch_size=4, gradient_accumulation_steps=1)
optimizer.update(lr=1e-3)
