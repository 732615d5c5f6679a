"""Objectives: what a model is trained to do, each a small unit.

An objective takes a model and a batch and returns a ``LossOutput``: the loss summed over its
targets, and how many there are. It may have, beside ``__call__``:

- ``count(batch)``: how many targets a batch has; trained tokens where it has no such method;
- ``learns_from``: the kind of data that it wants; ``samples`` where it says nothing;
- ``trains``: the kind of model that it wants; ``causal_lm`` where it says nothing;
- ``prepare(setup)``: gives the objective to train with, which may hold a reference model.
"""

from xft.models.reference import ReferenceContext
from xft.objectives.cpo import CPO
from xft.objectives.dpo import DPO
from xft.objectives.kto import KTO
from xft.objectives.next_token import next_token
from xft.objectives.orpo import ORPO
from xft.objectives.reference_based import Referenced
from xft.objectives.reward import Reward
from xft.objectives.simpo import SimPO
from xft.types import Batch, Objective

__all__ = [
    "CPO",
    "DPO",
    "KTO",
    "ORPO",
    "Referenced",
    "Reward",
    "SimPO",
    "count_targets",
    "next_token",
    "prepare_objective",
]


def count_targets(objective: Objective, batch: Batch) -> int:
    """How many targets the objective will find in a batch, before it has been asked for a loss."""
    count = getattr(objective, "count", None)
    return batch.num_targets if count is None else int(count(batch))


def prepare_objective(objective: Objective, setup: ReferenceContext) -> Objective:
    """Get an objective ready for a run: load its reference, or ask it ahead.

    Raises:
        ConfigError: the objective does not go with the model.
        ModelError: the reference cannot be opened.
    """
    prepare = getattr(objective, "prepare", None)
    ready: Objective = objective if prepare is None else prepare(setup)
    return ready
