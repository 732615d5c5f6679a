"""The module that the runner trains: a model and its objective."""

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from xft.models.routing import find_routing
from xft.types import Batch, LossFunction, LossOutput


class TrainingModel(nn.Module):
    """A model and an objective whose ``forward(batch)`` returns the loss.

    Both are one module: DDP and DeepSpeed wrap a module and hook its ``forward``.
    """

    def __init__(self, model: nn.Module, objective: LossFunction) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self._routing = find_routing(model) if isinstance(model, PreTrainedModel | PeftModel) else None

    def forward(self, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its targets."""
        return self.compute_loss(self.model, batch)

    def compute_loss(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch with ``model``, which may wrap the model of this module.

        In training, the auxiliary loss of a mixture-of-experts model is added.
        """
        if self._routing is None or not torch.is_grad_enabled():
            return self.objective(model, batch)
        with self._routing.record() as record:
            output = self.objective(model, batch)
        return self._routing.add_auxiliary_loss(output, record, batch)


def unwrap(model: nn.Module) -> TrainingModel:
    """Return the :class:`TrainingModel` inside the modules that wrap it, such as DDP's."""
    inner = model
    while not isinstance(inner, TrainingModel):
        inner = inner.get_submodule("module")
    return inner
