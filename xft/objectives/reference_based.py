"""An objective beside the reference that it measures the model against."""

from dataclasses import dataclass
from typing import Protocol

from torch import nn

from xft.models.reference import Reference
from xft.types import Batch, LossOutput


class AgainstReference(Protocol):
    """An objective that needs a reference."""

    def count(self, batch: Batch) -> int:
        """How many targets a batch has."""

    def against(self, reference: Reference, model: nn.Module, batch: Batch) -> LossOutput:
        """The loss of a batch, measured against a reference."""


@dataclass(frozen=True)
class Referenced:
    """What ``prepare`` of such an objective gives: ready to be trained with.

    Attributes:
        objective: as the config has it.
        reference: what it is measured against.
    """

    objective: AgainstReference
    reference: Reference

    def count(self, batch: Batch) -> int:
        """How many targets a batch has."""
        return self.objective.count(batch)

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """The loss of a batch."""
        return self.objective.against(self.reference, model, batch)
