from typing import Any

import pytest

from xft.errors import ConfigError
from xft.migration.axolotl import import_axolotl
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft

CONFIG = {
    "base_model": "org/model",
    "load_in_4bit": True,
    "adapter": "qlora",
    "lora_r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "lora_target_linear": True,
    "datasets": [{"path": "org/rows", "type": "chat_template"}],
    "chat_template": "chatml",
    "val_set_size": 0.05,
    "sequence_len": 512,
    "sample_packing": True,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 4,
    "num_epochs": 3,
    "optimizer": "adamw_bnb_8bit",
    "lr_scheduler": "cosine",
    "learning_rate": 0.0002,
    "gradient_checkpointing": True,
    "warmup_steps": 10,
    "wandb_project": "mine",
}


def read(**changes: Any) -> Draft:
    draft = import_axolotl(CONFIG | changes)
    assert draft.unexplained == []
    return draft


def test_qlora_has_the_values_of_the_config() -> None:
    config = read().finish()
    assert config["model"] == {"type": "causal_lm", "path": "org/model", "gradient_checkpointing": True}
    assert config["quantization"] == {"type": "nf4", "double_quant": True}
    assert config["adapter"] == {
        "type": "lora",
        "r": 8,
        "lora_alpha": 16,
        "target_modules": "all-linear",
        "lora_dropout": 0.05,
    }
    assert config["data"] == {
        "type": "instruction",
        "path": "org/rows",
        "format": "openai",
        "max_length": 512,
        "val_split": 0.05,
    }
    assert config["training"] == {"micro_batch_size": 2, "gradient_accumulation_steps": 4, "epochs": 3.0}
    assert config["optimizer"] == {"type": "adamw_8bit", "lr": 0.0002}
    assert config["lr_scheduler"] == {"type": "cosine", "warmup_steps": 10}
    assert config["loggers"]["wandb"] == {"type": "wandb", "project": "mine"}


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"adapter": None, "load_in_4bit": False}, "adapter", None),
        ({"adapter": "lora", "load_in_4bit": False, "load_in_8bit": True}, "quantization.type", "int8"),
        (
            {"bnb_config_kwargs": {"bnb_4bit_use_double_quant": False}},
            "quantization",
            {"type": "nf4", "double_quant": False},
        ),
        ({"rl": "dpo", "rl_beta": 0.2}, "objective", {"type": "dpo", "beta": 0.2}),
        ({"rl": "kto", "kto_desirable_weight": 0.2}, "objective", {"type": "kto", "desirable_weight": 0.2}),
        ({"rl": "ipo"}, "objective.loss", "ipo"),
        ({"rl": "orpo", "orpo_alpha": 0.3}, "objective.beta", 0.3),
        ({"rl": "simpo", "cpo_alpha": None}, "objective", {"type": "simpo", "beta": 0.1, "gamma": 0.5}),
        ({"reward_model": True, "num_labels": 1}, "model.type", "reward_model"),
        ({"processor_type": "AutoProcessor"}, "model.type", "vision_language"),
        ({"fsdp_config": {"fsdp_version": 2}}, "strategy", {"type": "fsdp2"}),
        ({"tokens": ["<x>"]}, "model.additional_special_tokens", ["<x>"]),
        ({"num_epochs": None}, "training.epochs", 1.0),
        ({"batch_size": 8, "gradient_accumulation_steps": None}, "training.gradient_accumulation_steps", 4),
        ({"warmup_steps": None}, "lr_scheduler.warmup_ratio", 0.03),
        ({"cosine_min_lr_ratio": 0.1}, "lr_scheduler.min_lr_ratio", 0.1),
        ({"model_config": {"router_aux_loss_coef": 0.01}}, "model.router_aux_loss_coef", 0.01),
        ({"model_config": {"output_router_logits": False}}, "model.router_aux_loss_coef", 0.0),
        ({"lora_target_linear": None, "lora_target_modules": ["q_proj"]}, "adapter.target_modules", ["q_proj"]),
        ({"lora_target_parameters": ["experts"]}, "adapter.target_modules", "all"),
        ({"lora_model_dir": "runs/a"}, "model.path", "runs/a"),
    ],
)  # fmt: skip
def test_keys_have_their_place(changes: dict[str, Any], path: str, value: object) -> None:
    assert read(**changes).get(path) == value


@pytest.mark.parametrize(
    ("changes", "key", "kind"),
    [
        ({"optimizer": "lion"}, "optimizer", CHANGED),
        ({"qat": {"weight_dtype": "int4"}}, "qat", MISSING),
        ({"relora_prune_ratio": 0.9}, "relora_prune_ratio", MISSING),
        ({"lr_scheduler": "rex"}, "lr_scheduler", CHANGED),
        ({"model_config": {"output_router_logits": True}}, "model_config.output_router_logits", CHANGED),
        ({"special_tokens": {"pad_token": "<pad>"}}, "special_tokens", CHANGED),
        ({"trl": {"beta": 0.1, "num_generations": 4}}, "trl.num_generations", MISSING),
        ({"train_on_inputs": True}, "train_on_inputs", CHANGED),
        ({"train_on_inputs": False}, "train_on_inputs", TAKEN),
        ({"group_by_length": True}, "group_by_length", CHANGED),
        ({"hub_model_id": "org/new"}, "hub_model_id", MISSING),
        ({"loss_watchdog_threshold": 5.0}, "loss_watchdog_threshold", TAKEN),
        ({"learning_rate": None}, "learning_rate", CHANGED),
        ({"a_typo": 1}, "a_typo", MISSING),
    ],
)
def test_what_differs_and_what_is_missing_is_listed(changes: dict[str, Any], key: str, kind: str) -> None:
    assert {key: entry.kind for entry in read(**changes).entries for key in entry.keys}[key] == kind


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"rl": "ebft"}, "rl"),
        ({"rl": "grpo"}, "rl"),
        ({"adapter": "llama-adapter"}, "adapter"),
        ({"adapter": None}, "load_in_4bit"),
        ({"plugins": ["axolotl.integrations.diffusion.DiffusionPlugin"]}, "plugins"),
        ({"num_labels": 2}, "process_reward_model"),
        ({"datasets": None}, "datasets"),
        ({"base_model": ["a"]}, "base_model"),
    ],
)
def test_a_run_without_counterpart_is_one_error(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**changes)
    assert caught.value.key == key
