"""Sampling settings."""

from typing import Any

import pytest

from xft.config.check import check
from xft.errors import ConfigError
from xft.rollouts import LocalEngine, RolloutConfig, calculator


def test_defaults_sample_locally_and_stop_at_a_reward_that_fails() -> None:
    config = RolloutConfig()
    assert config.engine == LocalEngine()
    assert config.on_reward_error == "error"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_generations", 0),
        ("num_generations", 2.0),
        ("num_iterations", 0),
        ("max_new_tokens", 0),
        ("temperature", 0),
        ("temperature", -1),
        ("temperature", float("nan")),
        ("pack_length", 0),
        ("on_reward_error", "ignore"),
        ("reward_timeout", 0),
        ("top_p", 0.9),
        ("engine", "nothing"),
    ],
)
def test_values_out_of_range_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check({key: value}, RolloutConfig)
    assert caught.value.causes[0].key.startswith(key)


def test_the_largest_batch_has_all_completions_or_pack_length_tokens() -> None:
    config = RolloutConfig(num_generations=4, max_new_tokens=16)
    assert config.largest_batch(8, 28) == 8 * 4 * (28 + 16)
    assert config.largest_batch(100, 28) == config.pack_length
    turns = RolloutConfig(num_generations=4, max_new_tokens=16, max_turns=3, environment=calculator)
    assert turns.largest_batch(2, 28) == 2 * 4 * (28 + 48)


def test_the_largest_batch_is_a_completion_that_is_longer_than_pack_length() -> None:
    config = RolloutConfig(num_generations=4, max_new_tokens=16, pack_length=40)
    assert config.largest_batch(8, 28) == 28 + 16


def test_an_environment_is_refused_under_each_strategy_that_shards_parameters() -> None:
    config = RolloutConfig(environment=calculator)
    config.check_environment(params_are_sharded=False)
    RolloutConfig().check_environment(params_are_sharded=True)
    with pytest.raises(ConfigError) as caught:
        config.check_environment(params_are_sharded=True)
    assert caught.value.key == "rollout.environment"
    assert all(name in str(caught.value) for name in ("ZeRO-3", "FSDP2"))
