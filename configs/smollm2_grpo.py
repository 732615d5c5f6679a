"""SmolLM2-135M, GRPO from a reward alone: it learns to answer with three short bullets, in minutes on a laptop CPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.smollm2 import *
    from ._base_.adapters.lora import *
    from ._base_.data.prompts import *
    from ._base_.eval_prompts.bullets import *
    from ._base_.schedules.cosine import *

objective = dict(type="grpo")
rewards = dict(structured=dict(type="structured", bullets=3, max_words=40))
rollout = dict(num_generations=8, max_new_tokens=56)
training.update(max_steps=20, micro_batch_size=4, gradient_accumulation_steps=1)
optimizer.update(lr=1e-3, betas=(0.9, 0.95))
lr_scheduler = dict(type="constant", warmup_steps=3)
hooks["checkpoint"].update(load_best_model_at_end=True)  # later steps can undo what was learned
hooks.update(saturation=dict(type="stop_at_reward", reward=0.97))
