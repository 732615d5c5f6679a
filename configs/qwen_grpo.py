"""Qwen2.5-7B-Instruct, GRPO with QLoRA on your own prompts: one 24 GB GPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.qwen2_5_7b import *
    from ._base_.methods.grpo import *
