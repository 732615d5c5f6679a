"""The module that the runner trains: a model and its objective."""

from typing import Any

from torch import nn

from xft.types import Batch, LossFunction, LossOutput


class TrainingModel(nn.Module):
    """A model and an objective whose ``forward(batch)`` returns the loss.

    Both are one module: DDP and DeepSpeed wrap a module and hook its ``forward``.
    """

    def __init__(self, model: nn.Module, objective: LossFunction) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its targets."""
        return self.objective(self.model, batch)


def unwrap(model: nn.Module) -> TrainingModel:
    """Return the :class:`TrainingModel` inside the modules that wrap it, such as DDP's."""
    inner: Any = model
    while not isinstance(inner, TrainingModel):
        inner = inner.module
    return inner
