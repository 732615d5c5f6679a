"""Every number of a config has a range, which ``xft check`` enforces before anything is loaded."""

import re
from typing import Any

import pytest

from xft.config import build, check
from xft.config.keys import ConfigKey, config_keys
from xft.config.overrides import NAMED_COLLECTIONS
from xft.errors import ConfigError
from xft.registry import REGISTRY_BY_KEY, list_registered
from xft.run_config.config import RunConfig

BAD = (-1, 0, -0.5, float("nan"), float("inf"), float("-inf"), 1e308, 10**30)
VALID: dict[str, tuple[float, ...]] = {
    "data.val_split": (0,),
    "data.split_seed": (0,),
    "data.seed": (0,),
    "data.max_overlong_fraction": (0,),
    "adapter.lora_dropout": (0,),
    "objective.label_smoothing": (0,),
    "objective.cpo_alpha": (0,),
    "objective.nll_weight": (0,),
    "objective.desirable_weight": (0,),
    "objective.undesirable_weight": (0,),
    "objective.margin": (0,),
    "objective.gamma": (0,),
    "objective.penalty_weight": (0,),
    "objective.bounds": (-1, 0, -0.5),
    "objective.beta-0.0": (0,),  # of GRPO
    "objective.beta-0.5": (0,),  # of GKD
    "objective.lmbda": (0,),
    "model.vision_feature_layer": (-1, 0),
    "rollout.engine.retries": (0,),
    "objective.reward_weights": (-1, 0, -0.5),
    "objective.min_reward": (-1, 0, -0.5),
    "model.router_aux_loss_coef": (0,),
    "rewards.number.tolerance": (0,),
    "training.min_steps_per_epoch": (0,),
    "optimizer.lr": (0,),
    "optimizer.betas": (0,),
    "optimizer.eps": (0,),
    "optimizer.weight_decay": (0,),
    "optimizer.momentum": (0,),
    "lr_scheduler.warmup_ratio": (0,),
    "lr_scheduler.warmup_steps": (0,),
    "lr_scheduler.min_lr_ratio": (0,),
    "hooks.early_stopping.min_delta": (0,),
    "hooks.training_health.max_skipped_steps": (0,),
    "hooks.stop_at_reward.reward": (-1, 0, -0.5),
    **{
        f"loggers.{name}.resume_step": (0,)
        for name in ("jsonl", "mlflow", "swanlab", "tensorboard", "wandb")
    },
    "seed": (0,),
}
"""Key to those of ``BAD`` that it accepts; 0 turns most of them off."""


def numeric_keys() -> list[ConfigKey]:
    return [key for key in config_keys(RunConfig) if re.search(r"\b(int|float)\b", key.type)]


def configs_with(key: ConfigKey, value: float) -> list[dict[str, Any]]:
    """Return a config for each component that has the key."""
    item: Any = value
    if key.type.startswith("tuple"):
        item = [value, 0.5]
    elif key.type.startswith("Mapping"):
        item = {"a": value}
    base = {"model": {"type": "causal_lm", "path": "a"}, "data": {"type": "instruction", "path": "a.jsonl"}}
    section, *names = key.path.split(".")
    if not names:
        return [{**base, section: item}]
    if section in NAMED_COLLECTIONS:
        return [{**base, section: {names[0]: {"type": names[0], names[1]: item}}}]
    if names[0] in REGISTRY_BY_KEY:
        inner = [{"type": name, names[1]: item} for name in key.components or list_registered(names[0])]
        return [{**base, section: {names[0]: component}} for component in inner]
    if section not in REGISTRY_BY_KEY:
        return [{**base, section: {names[0]: item}}]
    given = base.get(section, {})
    return [
        {**base, section: {**given, "type": name, names[0]: item}}
        for name in key.components or [given.get("type", list_registered(section)[0])]
    ]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("key", numeric_keys(), ids=lambda key: f"{key.path}-{key.default}")
def test_number_out_of_range_is_rejected_with_its_key(key: ConfigKey, value: float) -> None:
    for config in configs_with(key, value):
        try:
            check(config, RunConfig)
            mistakes = []
        except ConfigError as error:
            mistakes = [mistake.key for mistake in error.causes]
        if value in VALID.get(key.path, VALID.get(f"{key.path}-{key.default}", ())):
            assert key.path not in mistakes
            try:
                build(config, RunConfig)
            except ConfigError:
                continue  # needs another key as well
        else:
            assert key.path in mistakes


def test_table_names_existing_keys() -> None:
    names = {name for key in numeric_keys() for name in (key.path, f"{key.path}-{key.default}")}
    assert sorted(set(VALID) - names) == []


@pytest.mark.parametrize("number", [0, -1, 10**6])
def test_numbers_inside_a_dataset_of_a_mixture_have_ranges_too(number: int) -> None:
    dataset = {"type": "instruction", "path": "a.jsonl", "num_workers": number}
    config = {
        "model": {"type": "causal_lm", "path": "a"},
        "data": {"type": "mixture", "datasets": {"a": dataset}},
    }
    with pytest.raises(ConfigError) as error:
        check(config, RunConfig)
    assert error.value.key == "data.datasets.a.num_workers"
