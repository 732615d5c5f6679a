from typing import Any

import pytest

from xft.errors import ConfigError
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.migration.trl import METHODS, import_trl

CONFIG = {
    "model_name_or_path": "org/model",
    "dataset_name": "org/rows",
    "use_peft": True,
    "lora_target_modules": ["q_proj", "v_proj"],
    "learning_rate": 2e-4,
    "per_device_train_batch_size": 4,
    "max_length": 512,
}


def read(method: str | None = None, **changes: Any) -> Draft:
    draft = import_trl(CONFIG | changes, method)
    assert draft.unexplained == []
    return draft


@pytest.mark.parametrize(
    ("changes", "method", "objective", "kind"),
    [
        ({}, None, None, "instruction"),
        (
            {"loss_type": "ipo", "beta": 0.2},
            None,
            {"type": "dpo", "beta": 0.2, "loss": "ipo"},
            "preference",
        ),
        ({"loss_type": ["sigmoid"]}, None, {"type": "dpo", "loss": "sigmoid"}, "preference"),
        ({"desirable_weight": 1.5}, None, {"type": "kto", "desirable_weight": 1.5}, "unpaired_preference"),
        (
            {"num_generations": 4, "loss_type": "dapo"},
            None,
            {"type": "grpo", "loss_type": "dapo"},
            "prompt",
        ),
        ({"center_rewards_coefficient": 0.01}, None, {"type": "reward"}, "preference"),
        ({"beta": 0.3}, "orpo", {"type": "orpo", "beta": 0.3}, "preference"),
        (
            {"loss_type": "simpo", "simpo_gamma": 0.7},
            "cpo",
            {"type": "simpo", "gamma": 0.7, "nll_weight": 1.0, "beta": 0.1},
            "preference",
        ),
        ({"rpo_alpha": 0.5}, None, {"type": "dpo", "nll_weight": 0.5}, "preference"),
    ],
)
def test_method_decides_objective_and_rows(
    changes: dict[str, Any], method: str | None, objective: object, kind: str
) -> None:
    draft = read(method, **changes)
    assert draft.get("objective") == objective
    assert draft.get("data.type") == kind


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({}, "adapter", {"type": "lora", "r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"]}),
        ({"load_in_4bit": True}, "quantization", {"type": "nf4", "double_quant": False}),
        ({"lora_target_modules": None}, "adapter.target_modules", ["q_proj", "v_proj"]),
        ({"lora_target_modules": ["all-linear"]}, "adapter.target_modules", "all-linear"),
        ({}, "lr_scheduler", {"type": "linear", "warmup_steps": 0}),
        ({"use_peft": False}, "model.dtype", "float32"),
        ({"use_peft": False}, "strategy", {"type": "single_device", "mixed_precision": "bf16"}),
        ({"use_peft": False, "torch_dtype": "bfloat16"}, "strategy", None),
        ({"use_peft": False, "bf16": False}, "strategy", None),
    ],
)  # fmt: skip
def test_arguments_have_their_place(changes: dict[str, Any], path: str, value: object) -> None:
    assert read("sft", **changes).get(path) == value


@pytest.mark.parametrize("method", METHODS)
def test_the_default_learning_rate_is_that_of_the_trainer(method: str) -> None:
    rate = read(method, learning_rate=None).get("optimizer.lr")
    assert rate == {"sft": 2e-5, "reward": 1e-4}.get(method, 1e-6)


def test_trainers_of_preferences_disable_dropout() -> None:
    draft = read("dpo", lora_dropout=0.1)
    assert draft.get("adapter.lora_dropout") == 0.0
    assert {entry.key: entry.kind for entry in draft.entries}["lora_dropout"] == CHANGED
    assert read("dpo", lora_dropout=0.1, disable_dropout=False).get("adapter.lora_dropout") == 0.1
    assert read("sft", lora_dropout=0.1).get("adapter.lora_dropout") == 0.1


@pytest.mark.parametrize(
    ("method", "key", "value", "kind"),
    [
        ("sft", "loss_type", "nll", TAKEN),
        ("sft", "loss_type", "dft", CHANGED),
        ("sft", "beta", 0.1, TAKEN),
        ("kto", "precompute_ref_log_probs", True, CHANGED),
        ("reward", "center_rewards_coefficient", 0.01, MISSING),
        ("dpo", "sync_ref_model", True, MISSING),
        ("sft", "eos_token", "<end>", CHANGED),
        ("sft", "model_revision", "v2", MISSING),
    ],
)
def test_other_keys_are_listed(method: str, key: str, value: object, kind: str) -> None:
    assert {entry.key: entry.kind for entry in read(method, **{key: value}).entries}[key] == kind


@pytest.mark.parametrize(
    ("changes", "method", "key"),
    [
        ({}, "ppo", "--method"),
        ({"loss_type": "apo_zero"}, "dpo", "loss_type"),
        ({"loss_type": ["sigmoid", "sft"]}, "dpo", "loss_type"),
        ({"loss_type": "hinge"}, "cpo", "loss_type"),
        ({"loss_type": "sapo"}, "grpo", "loss_type"),
        ({"loss_type": "apo_zero_unpaired"}, "kto", "loss_type"),
        ({"load_in_4bit": True, "use_peft": False}, "sft", "use_peft"),
        ({"model_name_or_path": None}, "sft", "model_name_or_path"),
    ],
)
def test_a_run_without_counterpart_is_an_error(changes: dict[str, Any], method: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(method, **changes)
    assert caught.value.key == key
