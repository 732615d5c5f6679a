"""DeepSpeed itself: imported when it is asked for, and given what it can wrap."""

import logging
import os
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, distributed, nn

from xft.errors import ConfigError
from xft.models import TrainingModel
from xft.types import LossOutput


def import_deepspeed() -> Any:
    """DeepSpeed, kept from writing to the terminal.

    Raises:
        ConfigError: it is not installed.
    """
    if find_spec("deepspeed") is None:
        raise ConfigError(
            "strategy: DeepSpeed is not installed; `pip install xft-tuner[deepspeed]`, or in a checkout "
            "`pip install -r requirements/deepspeed.txt`"
        )
    gpu = torch.cuda.is_available()
    os.environ.setdefault("DS_ACCELERATOR", "cuda" if gpu else "cpu")
    import deepspeed
    from deepspeed.utils import logger

    if not gpu:
        # It would compile a faster sum for inference, which takes minutes and which nothing here uses.
        deepspeed.ops.__compatible_ops__ = {}
    logger.setLevel(logging.ERROR)
    return deepspeed


def join_ranks(timeout_minutes: float) -> Any:
    """Let DeepSpeed meet the ranks that are joined already. It would give its own group of them half
    an hour for every answer, whatever was said to be the limit.

    Returns:
        DeepSpeed.
    """
    deepspeed = import_deepspeed()
    from deepspeed.utils import groups

    deepspeed.comm.init_distributed(dist_init_required=False)
    if groups._WORLD_GROUP is None:
        ranks = list(range(distributed.get_world_size()))
        groups._WORLD_GROUP = distributed.new_group(ranks, timeout=timedelta(minutes=timeout_minutes))
    return deepspeed


class Engined(nn.Module):
    """What DeepSpeed wraps: the model, and what is made of it.

    DeepSpeed hooks itself to each module, and wants tensors and tuples from it. The objective's
    output is neither, so the module that gives it is none of those below this one.
    """

    def __init__(self, module: TrainingModel) -> None:
        super().__init__()
        self.model = module.model
        self._behind = (module,)

    @property
    def module(self) -> TrainingModel:
        """The model with its objective."""
        return self._behind[0]

    def forward(self, batch: Any) -> tuple[Tensor, LossOutput]:
        """The loss, and all that the objective says."""
        output = self.module.objective(self.model, batch)
        return output.loss_sum, output
