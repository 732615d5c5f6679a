"""GRPO with QLoRA, on your own prompts whose column ``reference`` has a number."""

from mmengine.config import read_base

with read_base():
    from ..adapters.qlora import *
    from ..schedules.cosine import *

data = dict(type="prompt", path="my_prompts.jsonl", max_length=512, val_split="auto")
objective = dict(type="grpo")
rewards = dict(
    answer=dict(type="number"),
    length=dict(type="length", max_tokens=384, buffer=128),
)
# On a GPU of its own, a server samples faster (docs/rl.md): engine=dict(type="openai_server", url="http://localhost:8000")
rollout = dict(num_generations=8, max_new_tokens=512, engine=dict(type="local", batch_size=64))
adapter.update(r=16, lora_alpha=32, lora_dropout=0.0)  # dropout would make sampler and trainer disagree
training.update(micro_batch_size=8, gradient_accumulation_steps=1)
optimizer.update(lr=2e-5)
