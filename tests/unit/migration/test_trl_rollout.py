from typing import Any

import pytest

from xft.errors import ConfigError
from xft.migration.arguments import Arguments
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.migration.trl_rollout import import_rollout


def read(**values: Any) -> Draft:
    draft = Draft("TRL", {"objective": {"type": "grpo"}})
    import_rollout(Arguments(draft, values))
    draft.close(())
    assert draft.unexplained == []
    return draft


@pytest.mark.parametrize(
    ("values", "path", "value"),
    [
        ({}, "rollout", {"num_generations": 8, "max_new_tokens": 512}),
        ({"num_generations": 4, "temperature": 0.7}, "rollout.temperature", 0.7),
        ({"loss_type": "dr_grpo"}, "objective.loss_type", "dr_grpo"),
        ({"loss_type": "bnpo"}, "objective.loss_type", "dapo"),
        ({"importance_sampling_level": "sequence"}, "objective.loss_type", "gspo"),
        ({"scale_rewards": True}, "objective.scale_rewards", "group"),
        ({"scale_rewards": False}, "objective.scale_rewards", "none"),
        ({"scale_rewards": "batch"}, "objective.scale_rewards", "batch"),
        ({"num_iterations": 4}, "rollout.num_iterations", 4),
        ({"epsilon_high": 0.3}, "objective.epsilon_high", 0.3),
        ({"reward_funcs": "mine"}, "rewards", {"length": {"type": "length"}}),
        (
            {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 2},
            "training",
            {"micro_batch_size": 2, "gradient_accumulation_steps": 2},
        ),
        (
            {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
            "training",
            {"micro_batch_size": 1, "gradient_accumulation_steps": 2},
        ),
    ],
)
def test_keys_have_their_place(values: dict[str, Any], path: str, value: object) -> None:
    assert read(**values).get(path) == value


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("loss_type", "bnpo", CHANGED),
        ("top_p", 1.0, TAKEN),
        ("top_p", 0.9, MISSING),
        ("use_vllm", True, CHANGED),
        ("reward_weights", [1.0], MISSING),
        ("off_policy_mask_threshold", 1.0, MISSING),
    ],
)
def test_other_keys_are_listed(key: str, value: object, kind: str) -> None:
    assert {entry.key: entry.kind for entry in read(**{key: value}).entries}[key] == kind


@pytest.mark.parametrize(
    ("key", "value"), [("loss_type", "vespo"), ("scale_rewards", "some"), ("num_generations", 0)]
)
def test_a_value_without_counterpart_is_an_error(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**{key: value})
    assert caught.value.key == key
