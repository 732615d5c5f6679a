"""SmolLM2-135M, DPO on hand-made pairs: answers become short and structured, in minutes on a laptop CPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.smollm2 import *
    from ._base_.adapters.lora import *
    from ._base_.data.pairs import *
    from ._base_.eval_prompts.everyday import *
    from ._base_.schedules.cosine import *

objective = dict(type="dpo", beta=0.1, nll_weight=1.0)
training.update(epochs=2, micro_batch_size=2, gradient_accumulation_steps=1)
optimizer.update(lr=1e-3)
lr_scheduler.update(warmup_steps=1)
