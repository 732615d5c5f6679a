"""Apply the rewards of a config to completions, and report the row on which a reward fails."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    """Rewards of completions.

    Attributes:
        totals: weighted sum of the rewards of each completion that are not ``None``; NaN if all are ``None``, or one failed.
        rewards_by_name: rewards of each completion by the name of the reward, not weighted; NaN if the reward is ``None`` or
            failed.
        failures: number of completions on which a reward failed.
    """

    totals: list[float]
    rewards_by_name: Mapping[str, list[float]]
    failures: int


@dataclass(frozen=True)
class RewardSet:
    """Rewards of a config.

    Args:
        rewards: rewards by name.
        weights: factors by name, 1 by default.
        on_error: ``error`` to raise an error if a reward fails, ``skip`` to exclude the completions on which it fails.
        timeout: timeout in seconds of one reward call (one completion; for a :class:`BatchReward`, all completions).

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
        """Score a made-up completion of a row, so that a failing reward ends the run before training.

        Raises:
            TrainingError: a reward fails, with any ``on_error``.
        """
        probe = Completion("An answer to test the rewards: 1.", "stop", 10)
        failures = _Failures([probe], [origin], skip=False)
        for name, reward in self.rewards.items():
            self._apply(name, reward, [probe], [row], failures)

    def score(
        self, completions: Sequence[Completion], rows: Sequence[Row], origins: Sequence[str]
    ) -> ScoredCompletions:
        """Score completions.

        Args:
            completions: sampled completions.
            rows: row of each completion.
            origins: location of each row, for messages.

        Raises:
            TrainingError: a reward fails, and ``on_error`` is ``error``.
        """
        failures = _Failures(
            completions,
            origins,
            self.on_error == "skip",
            "; set rollout.on_reward_error='skip' to skip such completions",
        )
        rewards_by_name = {
            name: self._apply(name, reward, completions, rows, failures)
            for name, reward in self.rewards.items()
        }
        totals = []
        for index in range(len(completions)):
            present = [
                self.weights.get(name, 1.0) * values[index]
                for name, values in rewards_by_name.items()
                if not math.isnan(values[index])
            ]
            totals.append(sum(present) if present and index not in failures.indices else math.nan)
        return ScoredCompletions(totals, rewards_by_name, len(failures.indices))

    def _apply(
        self,
        name: str,
        reward: Reward,
        completions: Sequence[Completion],
        rows: Sequence[Row],
        failures: "_Failures",
    ) -> list[float]:
        """Return the values of one reward, NaN for ``None`` and for completions on which it fails."""
        if isinstance(reward, BatchReward):
            return self._apply_batch(name, reward, completions, rows, failures)
        values: list[float] = []
        for index, (completion, row) in enumerate(zip(completions, rows, strict=True)):
            try:
                value = check_finite(self._call(partial(reward, completion, dict(row))))
            except Exception as error:  # noqa: BLE001  Code of the user may raise anything.
                failures.add(name, [index], error)
                value = None
            values.append(math.nan if value is None else value)
        return values

    def _apply_batch(
        self,
        name: str,
        reward: BatchReward,
        completions: Sequence[Completion],
        rows: Sequence[Row],
        failures: "_Failures",
    ) -> list[float]:
        """Return the values of a batch reward. If its call fails, it fails on all completions."""
        try:
            values = list(self._call(partial(reward.score, completions, rows)))
            if len(values) != len(completions):
                raise ValueError(f"returned {len(values)} values for {len(completions)} completions")
        except Exception as error:  # noqa: BLE001  Code of the user may raise anything.
            failures.add(name, range(len(completions)), error)
            return [math.nan] * len(completions)
        results = []
        for index, value in enumerate(values):
            try:
                number = check_finite(value)
            except Exception as error:  # noqa: BLE001  Code of the user may raise anything.
                failures.add(name, [index], error)
                number = None
            results.append(math.nan if number is None else number)
        return results

    def _call(self, function: Callable[[], Any]) -> Any:
        return call_with_timeout(function, self.timeout, "rollout.reward_timeout")


@dataclass
class _Failures:
    """Completions on which a reward fails.

    Attributes:
        completions: sampled completions.
        origins: location of the row of each completion.
        skip: log a warning and collect the completions; otherwise, raise the error.
        hint: end of the message of the error.
        indices: indices of the completions on which a reward has failed.
    """

    completions: Sequence[Completion]
    origins: Sequence[str]
    skip: bool
    hint: str = ""
    indices: set[int] = field(default_factory=set)

    def add(self, name: str, indices: Sequence[int], error: Exception) -> None:
        """Add the completions of one failure.

        Args:
            name: name of the reward.
            indices: indices of the completions.
            error: error that the reward raised, or that describes its value.

        Raises:
            TrainingError: failures are not skipped.
        """
        reason, first = describe_error(error), indices[0]
        text = console.shorten(self.completions[first].text, 80)
        place = f"row {self.origins[first]}, completion {text!r}"
        if len(indices) > 1:
            place = f"batch of {len(indices)} completions; the first: {place}"
        message = f"rewards.{name}: {reason} ({place})"
        if not self.skip:
            raise TrainingError(f"{message}{self.hint}", key=f"rewards.{name}", got=reason) from error
        count = f"{len(indices)} completion{'s' if len(indices) > 1 else ''}"
        console.info(f"warning: {message}; skipped {count}")
        self.indices.update(indices)
