"""LLaVA 1.5, stage 2: QLoRA of the language model with the projector of stage 1 (llava_v1_5_mix665k.json): 24 GB."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.llava_vicuna_7b import *
    from ._base_.adapters.qlora import *
    from ._base_.data.images import *
    from ._base_.schedules.cosine import *

model.update(type="vision_language", path="runs/llava_pretrain", train=dict(projector="full"))
model.pop("vision")
data.update(path="llava_v1_5_mix665k.json", format="llava", image_folder="images", on_invalid="quarantine")
training.update(epochs=1)
