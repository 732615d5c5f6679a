"""Interface of objectives."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from xft.errors import ConfigError
from xft.models.reference import ReferenceContext
from xft.types import Batch, LossFunction, LossOutput


class Objective(ABC):
    """Loss that a model is trained with.

    Attributes:
        data_kind: kind of samples that the objective needs: ``samples``, ``pairs`` or ``labelled answers``.
        model_kind: kind of model that the objective trains: ``causal_lm`` or ``reward_model``.
    """

    data_kind: ClassVar[str] = "samples"
    model_kind: ClassVar[str] = "causal_lm"

    @abstractmethod
    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, summed over its targets."""

    def count_targets(self, batch: Batch) -> int:
        """Count the targets of a batch without a forward pass; by default its target tokens."""
        return batch.num_targets

    def bind_reference(self, context: ReferenceContext) -> "Objective":
        """Return the objective to train with; one that needs a reference model loads it here.

        Raises:
            ConfigError: the objective does not fit the model.
            ModelError: the reference model cannot be loaded.
        """
        return self


@dataclass(frozen=True)
class FunctionObjective(Objective):
    """Adapter for any callable ``(model, batch) -> LossOutput``; its targets are tokens.

    Attributes:
        function: the callable.
    """

    function: LossFunction

    def __call__(self, model: nn.Module, batch: Batch) -> LossOutput:
        """Call the function."""
        return self.function(model, batch)


def as_objective(function: LossFunction) -> Objective:
    """Return ``function`` if it is an :class:`Objective`, else wrap it in a :class:`FunctionObjective`."""
    return function if isinstance(function, Objective) else FunctionObjective(function)


def validate_hyperparameters(**values: float) -> None:
    """Check the ranges of arguments that several objectives share.

    Args:
        values: arguments by name. ``beta`` must be above 0, ``label_smoothing`` in [0, 0.5); all others must be
            0 or more.

    Raises:
        ConfigError: for the first value out of its range.
    """
    for name, value in values.items():
        if name == "beta":
            fits, expected = value > 0, "more than 0"
        elif name == "label_smoothing":
            fits, expected = 0 <= value < 0.5, "0 or more and less than 0.5"
        else:
            fits, expected = value >= 0, "0 or more"
        if not fits:
            raise ConfigError(key=f"objective.{name}", got=value, expected=expected)
