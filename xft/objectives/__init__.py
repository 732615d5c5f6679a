"""Objectives: losses that a model is trained with.

An objective computes a :class:`~xft.types.LossOutput` from a model and a batch: the loss summed over its targets, and
the number of targets. :class:`~xft.objectives.base.Objective` is the interface; any callable works too.
"""

from xft.objectives.base import FunctionObjective, Objective, as_objective
from xft.objectives.best_of_n import BestOfN
from xft.objectives.cpo import CPO
from xft.objectives.dpo import DPO
from xft.objectives.gkd import GKD
from xft.objectives.grpo import GRPO
from xft.objectives.kto import KTO
from xft.objectives.next_token import NextToken, next_token
from xft.objectives.online import OnlineObjective
from xft.objectives.orpo import ORPO
from xft.objectives.reference_based import ObjectiveWithReference, ReferenceBasedObjective
from xft.objectives.reward import Reward
from xft.objectives.simpo import SimPO

__all__ = [
    "CPO",
    "DPO",
    "GKD",
    "GRPO",
    "KTO",
    "ORPO",
    "BestOfN",
    "FunctionObjective",
    "NextToken",
    "Objective",
    "ObjectiveWithReference",
    "OnlineObjective",
    "ReferenceBasedObjective",
    "Reward",
    "SimPO",
    "as_objective",
    "next_token",
]
