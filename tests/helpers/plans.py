"""Training plans of given lengths."""

from collections.abc import Sequence
from typing import Any

from xft.data import EpochBatchSampler
from xft.run_config.plan import TrainingPlan


def plan_of(lengths: Sequence[int], num_steps: int, **options: Any) -> TrainingPlan:
    """Return a plan of examples with these lengths; options are those of ``EpochBatchSampler``."""
    return TrainingPlan(EpochBatchSampler(tuple(lengths), **options), num_steps, (), "")
