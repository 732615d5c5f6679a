"""Best-of-n: which completions are trained on."""

import math

import torch

from xft.objectives.best_of_n import BestOfN


def test_the_first_of_the_best_completions_of_each_group_is_kept() -> None:
    rewards = torch.tensor([0.1, 0.9, 0.9, 0.0, 0.3, 0.2])
    kept = BestOfN().advantages(rewards, 3)
    assert [index for index, value in enumerate(kept.tolist()) if value == 1] == [1, 4]
    assert int(kept.isnan().sum()) == 4


def test_groups_without_spread_or_rewards_are_left_out() -> None:
    rewards = torch.tensor([0.5, 0.5, math.nan, math.nan, math.nan, 0.2])
    assert bool(BestOfN().advantages(rewards, 2).isnan()[:4].all())


def test_the_best_completion_must_reach_min_reward() -> None:
    rewards = torch.tensor([0.1, 0.4, 0.1, 0.8])
    kept = BestOfN(min_reward=0.5).advantages(rewards, 2)
    assert kept.isnan().tolist() == [True, True, True, False]
