"""LLaVA 1.5, stage 1: train the projector on captions (blip_laion_cc_sbu_558k.json of LLaVA-Pretrain): one 24 GB GPU."""

from mmengine.config import read_base

with read_base():
    from ._base_.runtime import *
    from ._base_.models.llava_vicuna_7b import *
    from ._base_.data.images import *
    from ._base_.schedules.cosine import *

adapter = None
model.update(train=dict(projector="full", language="frozen"))
data.update(path="blip_laion_cc_sbu_558k.json", format="llava", image_folder="images")
training.update(epochs=1, micro_batch_size=4)
optimizer.update(lr=1e-3)
