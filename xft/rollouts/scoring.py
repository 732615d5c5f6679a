"""Apply the rewards of a config to completions, and name the row of one that fails."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from xft.errors import ConfigError, TrainingError, did_you_mean
from xft.models.generation import Completion
from xft.rollouts.rewards import BatchReward, RewardFunction, check_finite
from xft.rollouts.user_code import call_with_timeout, describe_error
from xft.types import Row
from xft.utils import console

Reward = RewardFunction | BatchReward


@dataclass(frozen=True)
class ScoredCompletions:
    """Rewards of some completions.

    Attributes:
        totals: weighted sum of the rewards of each completion; NaN for one that is left out.
        parts: rewards by name, not weighted; NaN where a reward left the completion out.
        failures: number of completions left out because a reward failed.
    """

    totals: list[float]
    parts: Mapping[str, list[float]]
    failures: int


@dataclass(frozen=True)
class RewardSet:
    """The rewards of a config.

    Args:
        rewards: rewards by name.
        weights: factors by name, 1 by default.
        on_error: ``error`` or ``skip``.
        timeout: seconds after which a reward has failed.

    Raises:
        ConfigError: a weight names no reward.
    """

    rewards: Mapping[str, Reward]
    weights: Mapping[str, float]
    on_error: str = "error"
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for name in self.weights:
            if name not in self.rewards:
                fix = did_you_mean(name, self.rewards)
                raise ConfigError(
                    f"objective.reward_weights.{name}: no such reward; {fix}", key=f"objective.reward_weights.{name}"
                )  # fmt: skip

    def check(self, row: Row, origin: str) -> None:
        """Score a made-up completion of a row, so that a wrong reward fails before the training.

        Raises:
            TrainingError: a reward fails.
        """
        probe = Completion("An answer to test the rewards: 1.", "stop", 10)
        for name, reward in self.rewards.items():
            self._apply(name, reward, [probe], [row], [origin])

    def score(
        self, completions: Sequence[Completion], rows: Sequence[Row], origins: Sequence[str]
    ) -> ScoredCompletions:
        """Score completions.

        Args:
            completions: sampled completions.
            rows: the row of each.
            origins: location of each row, for messages.

        Raises:
            TrainingError: a reward fails, and ``on_error`` is ``error``.
        """
        failed: set[int] = set()
        parts = {
            name: self._apply(
                name, reward, completions, rows, origins, failed if self.on_error == "skip" else None
            )
            for name, reward in self.rewards.items()
        }
        totals = []
        for index in range(len(completions)):
            present = [
                self.weights.get(name, 1.0) * values[index]
                for name, values in parts.items()
                if not math.isnan(values[index])
            ]
            totals.append(sum(present) if present and index not in failed else math.nan)
        return ScoredCompletions(totals, parts, len(failed))

    def _apply(
        self,
        name: str,
        reward: Reward,
        completions: Sequence[Completion],
        rows: Sequence[Row],
        origins: Sequence[str],
        failed: set[int] | None = None,
    ) -> list[float]:
        """Return the values of one reward, NaN for ``None``; add completions on which it fails to ``failed``."""
        if isinstance(reward, BatchReward):
            return self._apply_batch(name, reward, completions, rows, origins)
        values: list[float] = []
        for index, (completion, row) in enumerate(zip(completions, rows, strict=True)):
            try:
                value = check_finite(self._call(partial(reward, completion, dict(row))))
            except Exception as error:
                failure = _failure(name, origins[index], error, completion)
                if failed is None:
                    raise failure from error
                console.info(f"warning: {failure}")
                failed.add(index)
                value = None
            values.append(math.nan if value is None else value)
        return values

    def _apply_batch(
        self,
        name: str,
        reward: BatchReward,
        completions: Sequence[Completion],
        rows: Sequence[Row],
        origins: Sequence[str],
    ) -> list[float]:
        try:
            values = list(self._call(partial(reward.score, completions, rows)))
        except Exception as error:
            raise _failure(name, origins[0], error, completions[0]) from error
        if len(values) != len(completions):
            problem = ValueError(f"returned {len(values)} values for {len(completions)} completions")
            raise _failure(name, origins[0], problem, completions[0])
        results = []
        for value, origin, completion in zip(values, origins, completions, strict=True):
            try:
                number = check_finite(value)
            except ValueError as error:
                raise _failure(name, origin, error, completion) from error
            results.append(math.nan if number is None else number)
        return results

    def _call(self, function: Callable[[], Any]) -> Any:
        return call_with_timeout(function, self.timeout, "rollout.reward_timeout")


def _failure(name: str, origin: str, error: Exception, completion: Completion) -> TrainingError:
    reason, text = describe_error(error), console.shorten(completion.text, 80)
    return TrainingError(
        f"rewards.{name}: {reason} (row {origin}, completion {text!r}); rollout.on_reward_error='skip' leaves such "
        "completions out",
        key=f"rewards.{name}",
        got=reason,
    )
