"""Objectives that compare the model with a reference model."""

from abc import abstractmethod
from dataclasses import dataclass

from torch import nn

from xft.models.reference import DisabledAdapterReference, Reference, ReferenceContext, build_reference
from xft.objectives.base import Objective
from xft.types import Batch, LossOutput


@dataclass(frozen=True, kw_only=True)
class ReferenceBasedObjective(Objective):
    """Base class of objectives with a reference model.

    Args:
        reference: ``disable_adapter``, ``frozen_copy`` (of the model at the start of the run), or a model: a
            folder, a run or a hub id. ``auto`` means ``disable_adapter`` if there is an adapter, else
            ``frozen_copy``.
        precompute_ref_log_probs: compute the log-probabilities of the reference once, before training begins.
            This saves one forward pass per step and the memory of a second model.
    """

    reference: str = "auto"
    precompute_ref_log_probs: bool = False

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss with the adapter-free model as reference; ``bind_reference`` allows any other one."""
        return self.loss_with_reference(DisabledAdapterReference(), model, batch)

    def bind_reference(self, context: ReferenceContext) -> "ObjectiveWithReference":
        """Load the reference model, or precompute its log-probabilities."""
        reference = build_reference(self.reference, self.precompute_ref_log_probs, context)
        return ObjectiveWithReference(self, reference)

    @abstractmethod
    def loss_with_reference(self, reference: Reference, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its targets, against ``reference``."""


@dataclass(frozen=True)
class ObjectiveWithReference(Objective):
    """Objective together with its loaded reference model.

    Attributes:
        objective: objective of the config.
        reference: gives the log-probabilities of the reference model.
    """

    objective: ReferenceBasedObjective
    reference: Reference

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch."""
        return self.objective.loss_with_reference(self.reference, model, batch)

    def count_targets(self, batch: Batch) -> int:
        """Count the targets of a batch."""
        return self.objective.count_targets(batch)
