"""Objectives on sampled completions: what they have in common."""

import pytest
import torch

from xft.errors import ConfigError
from xft.objectives import GRPO
from xft.objectives.best_of_n import BestOfN
from xft.objectives.online import OnlineObjective, policy_targets
from xft.types import Batch


@pytest.mark.parametrize("objective", [GRPO(), BestOfN()])
def test_online_objectives_need_prompts(objective: OnlineObjective) -> None:
    assert objective.data_kind == "prompts"
    assert objective.reward_weights == {}
    assert objective.requires_rewards
    assert objective.on_policy_fraction == 1


def test_policy_targets_of_other_batches_are_refused() -> None:
    ids = torch.zeros(1, 2, dtype=torch.long)
    with pytest.raises(ConfigError) as error:
        policy_targets(Batch(ids, ids, ids))
    assert error.value.key == "data.type"
