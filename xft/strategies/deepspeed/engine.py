"""Import DeepSpeed, and adapt xft to it."""

import logging
import os
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, distributed, nn

from xft.errors import ConfigError
from xft.models import TrainingModel
from xft.types import Batch, LossOutput


def import_deepspeed() -> Any:
    """Import DeepSpeed, silence its logger, and return it.

    Raises:
        ConfigError: DeepSpeed is not installed.
    """
    if find_spec("deepspeed") is None:
        raise ConfigError(
            "strategy: DeepSpeed is not installed; `pip install xft-tuner[deepspeed]`, or in a checkout "
            "`pip install -r requirements/deepspeed.txt`",
            key="strategy.type",
            got="deepspeed",
        )
    gpu = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if gpu else "cpu")
    import deepspeed
    from deepspeed.utils import logger

    if not gpu:
        # DeepSpeed would compile an all-reduce for inference, which takes minutes and is not used here.
        deepspeed.ops.__compatible_ops__ = {}
    logger.setLevel(logging.ERROR)
    return deepspeed


def init_comm(timeout_minutes: float) -> Any:
    """Initialize DeepSpeed's communication on the existing process group, and return DeepSpeed.

    By default, DeepSpeed creates a second group with a time-out of 30 minutes; here it gets ``timeout_minutes``.
    """
    deepspeed = import_deepspeed()
    from deepspeed.utils import groups

    deepspeed.comm.init_distributed(dist_init_required=False)
    if groups._WORLD_GROUP is None:
        ranks = list(range(distributed.get_world_size()))
        groups._WORLD_GROUP = distributed.new_group(ranks, timeout=timedelta(minutes=timeout_minutes))
    return deepspeed


class DeepSpeedModule(nn.Module):
    """Module passed to ``deepspeed.initialize``; its forward runs the objective on the model.

    DeepSpeed hooks into every submodule and expects tensors or tuples from it. A ``LossOutput`` is neither. The training
    model, which returns one, is therefore not registered as a submodule.
    """

    def __init__(self, module: TrainingModel) -> None:
        super().__init__()
        self.model = module.model
        self._unregistered = (module,)

    @property
    def module(self) -> TrainingModel:
        """Return the training model."""
        return self._unregistered[0]

    def forward(self, batch: Batch) -> tuple[Tensor, LossOutput]:
        """Return the summed loss, and the full output of the objective."""
        output = self.module.compute_loss(self.model, batch)
        return output.loss_sum, output
