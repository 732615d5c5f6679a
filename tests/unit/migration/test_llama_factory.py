from pathlib import Path
from typing import Any

import pytest

from xft.errors import ConfigError
from xft.migration.draft import CHANGED, MISSING, TAKEN, Draft
from xft.migration.llama_factory import import_llama_factory

CONFIG = {
    "model_name_or_path": "org/model",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 4,
    "lora_target": "q_proj,v_proj",
    "dataset": "org/rows",
    "template": "qwen3",
    "cutoff_len": 512,
    "packing": True,
    "val_size": 0.1,
    "per_device_train_batch_size": 2,
    "learning_rate": "1e-4",
    "num_train_epochs": 2.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "bf16": True,
    "report_to": "wandb",
}


def read(**changes: Any) -> Draft:
    draft = import_llama_factory(CONFIG | changes, Path("c.yaml"))
    assert draft.unexplained == []
    return draft


def kinds(draft: Draft) -> dict[str, str]:
    return {key: entry.kind for entry in draft.entries for key in entry.keys}


def test_lora_has_the_values_of_the_config_and_the_defaults_of_the_tool() -> None:
    config = read().finish()
    assert config["model"] == {"type": "causal_lm", "path": "org/model"}
    assert config["adapter"] == {
        "type": "lora",
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "target_modules": ["q_proj", "v_proj"],
    }
    assert config["data"] == {
        "type": "instruction",
        "path": "org/rows",
        "format": "auto",
        "max_length": 512,
        "on_overlong": "truncate",
        "val_split": 0.1,
    }
    assert config["template"] == "qwen3"
    assert config["training"] == {
        "micro_batch_size": 2,
        "epochs": 2.0,
        "gradient_accumulation_steps": 1,
    }
    assert config["optimizer"] == {"type": "adamw", "lr": 1e-4}
    assert config["lr_scheduler"] == {"type": "cosine", "warmup_ratio": 0.1}
    assert config["loggers"]["wandb"] == {"type": "wandb"}


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"learning_rate": None}, "optimizer.lr", 5e-5),
        ({"lr_scheduler_type": None}, "lr_scheduler.type", "linear"),
        ({"lora_rank": None}, "adapter.r", 8),
        (
            {"quantization_bit": 4, "double_quantization": False},
            "quantization",
            {"type": "nf4", "double_quant": False},
        ),
        ({"finetuning_type": "full"}, "strategy", {"type": "single_device", "mixed_precision": "bf16"}),
        ({"finetuning_type": "full"}, "model.dtype", "float32"),
        ({"finetuning_type": "full", "pure_bf16": True}, "model.dtype", "bfloat16"),
        ({"finetuning_type": "full", "bf16": None}, "strategy", None),
        (
            {"stage": "dpo", "pref_loss": "orpo", "pref_beta": 0.2},
            "objective",
            {"type": "orpo", "beta": 0.2},
        ),
        (
            {"stage": "dpo", "pref_loss": "simpo", "simpo_gamma": 0.7, "pref_ftx": 0.1},
            "objective",
            {"type": "simpo", "nll_weight": 0.1, "gamma": 0.7, "beta": 0.1},
        ),
        ({"stage": "dpo", "ref_model": "org/ref"}, "objective.reference", "org/ref"),
        ({"stage": "kto", "kto_chosen_weight": 0.5}, "objective.desirable_weight", 0.5),
        ({"stage": "rm"}, "model.type", "reward_model"),
        ({"stage": "pt"}, "objective.type", "pretrain"),
        ({"image_max_pixels": 1000}, "model.max_pixels", 1000),
        ({"freeze_vision_tower": False}, "model.train.vision", "full"),
        ({"use_muon": True}, "optimizer.type", "muon"),
        ({"adam_beta2": 0.95}, "optimizer.betas", [0.9, 0.95]),
        ({"max_steps": 7}, "training.max_steps", 7),
        ({"moe_aux_loss_coef": 0.01}, "model.router_aux_loss_coef", 0.01),
        ({"add_special_tokens": "<a>,<b>"}, "model.additional_special_tokens", ["<a>", "<b>"]),
        ({"adapter_name_or_path": "runs/a"}, "model.path", "runs/a"),
    ],
)
def test_keys_have_their_place(changes: dict[str, Any], path: str, value: object) -> None:
    assert read(**changes).get(path) == value


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("use_galore", True, MISSING),
        ("galore_rank", 8, MISSING),
        ("use_galore", False, TAKEN),
        ("freeze_trainable_layers", 2, TAKEN),
        ("pref_beta", 0.1, TAKEN),
        ("train_on_prompt", True, CHANGED),
        ("group_by_length", True, MISSING),
        ("push_to_hub", True, MISSING),
        ("video_max_pixels", 5, MISSING),
        ("quantization_type", "fp4", TAKEN),
        ("create_new_adapter", True, CHANGED),
        ("rope_scaling", "yarn", MISSING),
    ],
)
def test_a_key_without_a_value_in_xft_is_listed(key: str, value: object, kind: str) -> None:
    assert kinds(read(**{key: value}))[key] == kind


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"dataset": None}, "do_train"),
        ({"do_predict": True}, "do_train"),
        ({"stage": "ppo"}, "stage"),
        ({"finetuning_type": "oft"}, "finetuning_type"),
        ({"quantization_bit": 2}, "quantization_bit"),
        ({"adapter_name_or_path": "a,b"}, "adapter_name_or_path"),
        ({"train_from_scratch": True}, "train_from_scratch"),
        ({"stage": "dpo", "pref_loss": "bco"}, "pref_loss"),
        ({"model_name_or_path": None}, "model_name_or_path"),
    ],
)
def test_a_run_without_counterpart_is_one_error(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(**changes)
    assert caught.value.key == key
