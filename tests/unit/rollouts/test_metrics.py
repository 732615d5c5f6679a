"""Metrics of a reinforcement learning step."""

import math

import pytest

from xft.models.generation import Completion
from xft.models.sampling import SampledTokens
from xft.rollouts import Rollout
from xft.rollouts.metrics import rollout_metrics


def rollout(rewards: list[float], lengths: tuple[int, ...]) -> Rollout:
    tokens = [
        SampledTokens([1] * length, [-1.0] * length, [0.5] * length, stopped=length < 4)
        for length in lengths
    ]
    completions = [Completion("", "stop", length) for length in lengths]
    return Rollout("rows.jsonl:1", [1], tokens, completions, rewards, {"a": rewards, "b": [math.nan, 2.0]})


def test_means_are_over_completions_groups_and_tokens() -> None:
    metrics = rollout_metrics([rollout([1.0, 0.0], (2, 4)), rollout([0.5, 0.5], (1, 4))], ["a", "b"], list)
    assert metrics == {
        "reward": 0.5,
        "reward_std": pytest.approx(math.sqrt(0.5) / 2),
        "frac_reward_zero_std": 0.5,
        "rewards/a": 0.5,
        "rewards/b": 2.0,
        "completions/mean_length": 11 / 4,
        "completions/stopped": 0.5,
        "completions/repetition": 0,
        "entropy": 0.5,
        "completions/failed": 0,
    }


def test_completions_without_reward_are_counted_and_excluded() -> None:
    metrics = rollout_metrics([rollout([1.0, math.nan], (2, 4))], ["a", "b"], list)
    assert metrics["reward"] == 1.0
    assert metrics["reward_std"] == 0.0
    assert metrics["completions/failed"] == 1


def test_a_rank_without_completions_has_metrics() -> None:
    metrics = rollout_metrics([], ["a"], list)
    assert math.isnan(metrics["reward"])
    assert metrics["completions/failed"] == 0


def test_without_rewards_there_are_metrics_of_the_tokens() -> None:
    metrics = rollout_metrics([rollout([math.nan, math.nan], (2, 4))], [], list)
    assert metrics == {
        "completions/mean_length": 3,
        "completions/stopped": 0.5,
        "completions/repetition": 0,
        "entropy": 0.5,
        "completions/failed": 0,
    }


def test_repeated_n_grams_of_tokens_are_counted() -> None:
    ids = [[1, 2, 3, 4, 5, 6, 7], [1] * 13]
    tokens = [SampledTokens(row, [0.0] * len(row), [0.0] * len(row)) for row in ids]
    completions = [Completion("", "length", len(row)) for row in ids]
    metrics = rollout_metrics([Rollout("", [1], tokens, completions, [math.nan] * 2)], [], list)
    assert metrics["completions/repetition"] == pytest.approx((0 + 0.9) / 2)


def test_repetition_ignores_the_tokens_of_an_environment() -> None:
    turn, reply = [1, 2, 3, 4], [9] * 20
    ids = [*turn, *reply, *turn]
    sampled = [True] * 4 + [False] * 20 + [True] * 4
    tokens = [SampledTokens(ids, [0.0] * 8, [0.0] * 8, sampled=sampled)]
    done = Rollout("", [1], tokens, [Completion("", "stop", 8)], [math.nan])
    # Two sequences were sampled, and the second one repeats the first; the reply repeats itself 16 times.
    assert rollout_metrics([done], [], list)["completions/repetition"] == 0.5
