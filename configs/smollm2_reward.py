"""SmolLM2-135M as a reward model, LoRA on hand-made pairs: minutes on a laptop CPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.smollm2 import *
    from ._base_.adapters.lora import *
    from ._base_.data.pairs import *
    from ._base_.schedules.cosine import *

model.update(type="reward_model")
objective = dict(type="reward", penalty="l2")
training.update(epochs=1, micro_batch_size=2, gradient_accumulation_steps=1)
