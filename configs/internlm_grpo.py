"""InternLM3-8B-Instruct, GRPO with QLoRA on your own prompts: one 24 GB GPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.internlm3_8b import *
    from ._base_.methods.grpo import *
