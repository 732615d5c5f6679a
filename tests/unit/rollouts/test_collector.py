"""Advantages over several ranks, and the prompts that the model answers."""

import math
from typing import Any

import numpy as np
from helpers.generators import EchoGenerator
from helpers.rollouts import make_rollout

from xft.objectives import GKD, GRPO, OnlineObjective
from xft.rollouts import RewardSet, RolloutCollector, RolloutConfig, to_policy_samples
from xft.rollouts.collector import _prompt_ids
from xft.types import IGNORE_INDEX, Sample


def collector(objective: OnlineObjective | None = None) -> RolloutCollector:
    generator: Any = EchoGenerator()
    config = RolloutConfig(num_generations=2)
    return RolloutCollector(config, RewardSet({"a": lambda *_: 0.0}, {}), objective or GRPO(), generator, 0)


def test_advantages_do_not_depend_on_the_number_of_ranks() -> None:
    rewards = [[1.0, 0.0], [0.3, 0.9], [0.2, 0.1]]
    objective = GRPO(scale_rewards="batch")
    rollouts = [make_rollout(values) for values in rewards]
    together = collector(objective).with_advantages(
        rollouts, [[value for values in rewards for value in values]], 0
    )
    first = collector(objective).with_advantages(rollouts[:1], [rewards[0], rewards[1] + rewards[2]], 0)
    second = collector(objective).with_advantages(rollouts[1:], [rewards[0], rewards[1] + rewards[2]], 1)
    assert [item.advantages for item in [*first, *second]] == [item.advantages for item in together]


def test_truncated_completions_can_be_excluded_from_the_loss() -> None:
    (done,) = collector(GRPO(mask_truncated_completions=True)).with_advantages(
        [make_rollout([1.0, 0.0])], [[1.0, 0.0]], 0
    )
    assert [math.isnan(value) for value in done.advantages] == [False, True]
    (sample,) = to_policy_samples([done])
    assert len(sample.sample) == 5


def answered(number: int) -> Sample:
    ids = np.arange(6, dtype=np.int32) + number
    labels = ids.copy()
    labels[:4] = IGNORE_INDEX
    return Sample(ids, labels)


def test_a_fraction_of_the_prompts_is_answered_by_the_rows() -> None:
    made = collector(GKD(teacher="t", lmbda=0.5))
    samples: Any = [answered(number) for number in range(400)]
    sampled, answers = made.split_examples(samples, range(400), step=3)
    assert 150 < len(sampled) < 250
    assert len(sampled) + len(answers) == 400
    assert made.split_examples(samples, range(400), step=3)[0] == sampled
    # A row is treated alike whatever the other rows of its rank.
    assert made.split_examples(samples, range(100), step=3)[0] == [row for row in sampled if row < 100]
    assert made.split_examples(samples, range(400), step=4)[0] != sampled
    assert sum(item.sample.num_targets for item in to_policy_samples([], answers[:2])) == 4
    assert collector(GKD(teacher="t")).split_examples(samples, range(400), 3) == (list(range(400)), [])


def test_kept_answers_are_no_part_of_the_prompt() -> None:
    assert _prompt_ids(answered(0)) == [0, 1, 2, 3]
    ids = np.arange(3, dtype=np.int32)
    assert _prompt_ids(Sample(ids, np.full(3, IGNORE_INDEX, dtype=np.int32))) == [0, 1, 2]


def test_groups_without_spread_are_not_trained_on() -> None:
    made = collector()
    done = made.with_advantages([make_rollout([0.5, 0.5])], [[0.5, 0.5]], 0)
    assert to_policy_samples(done) == []
    assert not done[0].has_spread
