"""Interface of objectives that train on completions which the model samples during the run."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from xft.errors import ConfigError
from xft.objectives.base import Objective
from xft.types import Batch, PolicyTargets
from xft.types.ranges import Real


@dataclass(frozen=True, kw_only=True)
class OnlineObjective(Objective):
    """Base class of objectives that train on sampled completions.

    Args:
        reward_weights: factor of each reward by its name under ``rewards``; 1 for others.
        mask_truncated_completions: do not train on completions that reached the limit of tokens.
    """

    data_kind: ClassVar[str] = "prompts"
    requires_rewards: ClassVar[bool] = True
    """Whether the loss depends on rewards, and compares those of several completions of a prompt."""

    reward_weights: Mapping[str, Real] = field(default_factory=dict)
    mask_truncated_completions: bool = False

    @abstractmethod
    def advantages(self, rewards: Tensor, group_size: int) -> Tensor:
        """Decide what is learned from each completion.

        Args:
            rewards: ``(completions,)`` of all ranks, groups next to each other; NaN for a completion without a reward.
            group_size: number of completions per prompt.

        Returns:
            ``(completions,)``; NaN for a completion that is not trained on.
        """

    @property
    def on_policy_fraction(self) -> float:
        """Fraction of prompts that the model answers; for the others the answer of the row is used."""
        return 1.0


def policy_targets(batch: Batch) -> PolicyTargets:
    """Return what a batch of sampled completions knows about its targets.

    Raises:
        ConfigError: the batch was not sampled.
    """
    if batch.policy is None:
        raise ConfigError(
            key="data.type", got="a batch without sampled completions", expected="'prompt', which this objective needs"
        )  # fmt: skip
    return batch.policy
