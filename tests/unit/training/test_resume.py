"""A resumed run keeps its steps and its config."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from xft.checkpoint.resume_state import ResumeState
from xft.errors import CheckpointError, ConfigError
from xft.run_config.config import TrainingConfig
from xft.training.resume import adapt_to_world_size, check_resumable, diff_configs, frozen_config

BATCHING = {"world_size": 4, "window": 24, "batch_size": 2, "capacity": 512}
CONFIG: dict[str, Any] = {
    "model": {"path": "m"},
    "data": {"path": "a.jsonl", "num_workers": 2, "max_length": 64},
    "training": {"epochs": 1, "max_steps": 4, "max_grad_norm": 1.0},
    "optimizer": {"type": "adamw", "lr": 0.1},
    "rollout": {"engine": {"type": "local"}, "max_new_tokens": 8},
    "hooks": {"checkpoint": {"type": "checkpoint"}},
    "strategy": {"type": "single_device"},
}


@pytest.mark.parametrize(
    ("world_size", "accumulation", "note"),
    [
        (1, 24, "RNG state of ranks 1 to 3 is discarded (world size changed)"),
        (3, 8, "RNG state of rank 3 is discarded (world size changed)"),
        (8, 3, "RNG state of ranks 4 to 7 is initialized from the seed (world size changed)"),
    ],
)
def test_adapt_to_world_size_keeps_the_batch_of_a_step(
    world_size: int, accumulation: int, note: str
) -> None:
    config = TrainingConfig(micro_batch_size=8, gradient_accumulation_steps=16, max_grad_norm=0.5)
    training, length, lines = adapt_to_world_size(config, 1024, BATCHING, world_size)
    assert training.gradient_accumulation_steps * world_size == BATCHING["window"]
    assert (training.gradient_accumulation_steps, training.micro_batch_size) == (accumulation, 2)
    assert (length, training.min_steps_per_epoch, training.max_grad_norm) == (512, 0, 0.5)
    assert f"gradient_accumulation_steps 6 → {accumulation}" in lines[0]
    assert lines[1:] == [note]


def test_adapt_to_world_size_unchanged_keeps_the_config() -> None:
    config = TrainingConfig(gradient_accumulation_steps=16)
    assert adapt_to_world_size(config, 1024, BATCHING, 4) == (config, 1024, [])


def test_adapt_to_world_size_indivisible_raises_with_the_divisors() -> None:
    with pytest.raises(ConfigError) as error:
        adapt_to_world_size(TrainingConfig(), 1024, BATCHING, 5)
    assert (error.value.key, error.value.got) == ("--resume: world size", 5)
    assert error.value.expected.endswith("(1, 2, 3, 4, 6, 8, 12, 24)")


def resume_state(config: dict[str, Any]) -> ResumeState:
    values = {
        "step": 1,
        "tokens_seen": 1,
        "stop_reason": None,
        "data_fingerprint": "rows",
        "batching": BATCHING,
    }
    return ResumeState(
        **values, config=frozen_config(config), hooks={}, loggers={}, folder=Path("step_1"), training={}, shards=[]
    )  # fmt: skip


@pytest.mark.parametrize("wrap", [dict, Config])
def test_check_resumable_refuses_another_config_or_other_data(wrap: Any) -> None:
    state = resume_state(CONFIG)
    check_resumable(state, wrap({**CONFIG, "hooks": {}}), "rows")
    with pytest.raises(CheckpointError) as caught:
        check_resumable(state, wrap({**CONFIG, "optimizer": {"type": "adamw", "lr": 0.2}}), "rows")
    assert caught.value.got == ["optimizer.lr was 0.1, is 0.2"]
    with pytest.raises(CheckpointError) as caught:
        check_resumable(state, wrap(CONFIG), "other rows")
    assert (caught.value.got, caught.value.expected) == ("other rows", "rows")


def test_frozen_config_leaves_out_the_keys_that_may_change() -> None:
    assert frozen_config(Config(CONFIG)) == {
        "model": {"path": "m"},
        "data": {"max_length": 64},
        "training": {"max_grad_norm": 1.0},
        "optimizer": {"type": "adamw", "lr": 0.1},
        "rollout": {"max_new_tokens": 8},
    }


def test_frozen_config_of_a_mixture_leaves_out_keys_of_each_data_set() -> None:
    mixture = {"datasets": {"a": {"path": "a", "val_split": 0.1}, "removed": None}}
    assert frozen_config(Config({**CONFIG, "data": mixture}))["data"] == {
        "datasets": {"a": {"val_split": 0.1}}
    }


def test_frozen_config_names_functions() -> None:
    config = Config({**CONFIG, "objective": adapt_to_world_size})
    assert frozen_config(config)["objective"] == "xft.training.resume.adapt_to_world_size"


def test_diff_configs_lists_changed_added_and_removed_keys() -> None:
    before = {"optimizer": {"lr": 0.01}, "seed": 1, "old": 2}
    assert diff_configs(before, {"optimizer": {"lr": 0.001}, "seed": 1, "new": 3}) == [
        "new was None, is 3",
        "old was 2, is None",
        "optimizer.lr was 0.01, is 0.001",
    ]
