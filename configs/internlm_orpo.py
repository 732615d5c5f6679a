"""InternLM3-8B-Instruct, ORPO with QLoRA on your own pairs: one 24 GB GPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.internlm3_8b import *
    from ._base_.methods.orpo import *
