"""What a config may say at its top level, and what it becomes."""

from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xft.config import build, load_config
from xft.data import InstructionData, TextData
from xft.errors import ConfigError
from xft.models import NF4, CausalLMConfig, LoRA
from xft.objectives import next_token
from xft.optim import adamw, cosine
from xft.run_config.config import RunConfig, TrainingConfig
from xft.strategies import SingleDeviceConfig
from xft.templates import ChatTemplate
from xft.training.hooks import (
    CheckpointHook,
    EarlyStoppingHook,
    ProgressHook,
    SampleGenerationHook,
    TrainingHealthHook,
    ValidationHook,
    VerifyHook,
)

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
LEAVES = sorted(CONFIGS.glob("*.py"))
SMALLEST: dict[str, Any] = {
    "model": {"type": "causal_lm", "path": "p"},
    "data": {"type": "instruction", "path": "rows.jsonl"},
}
PROMPTS: dict[str, Any] = {"type": "prompt", "path": "rows.jsonl"}
ANSWERED: dict[str, Any] = {**PROMPTS, "keep_answers": True}


def test_the_keys_of_a_config_are_these() -> None:
    assert {each.name for each in fields(RunConfig)} == {
        "model",
        "adapter",
        "quantization",
        "data",
        "template",
        "objective",
        "rewards",
        "rollout",
        "training",
        "optimizer",
        "lr_scheduler",
        "strategy",
        "hooks",
        "loggers",
        "eval_prompts",
        "seed",
        "work_dir",
    }


def test_model_and_data_are_enough() -> None:
    run_config = build(SMALLEST, RunConfig)
    assert isinstance(run_config.model, CausalLMConfig)
    assert isinstance(run_config.data, InstructionData)
    assert isinstance(run_config.template, ChatTemplate)
    assert run_config.objective is next_token
    assert run_config.training == TrainingConfig(
        epochs=3, max_steps=None, micro_batch_size=1, gradient_accumulation_steps=1, max_grad_norm=1.0
    )
    assert (run_config.optimizer, run_config.lr_scheduler, run_config.strategy) == (
        adamw,
        cosine,
        SingleDeviceConfig(),
    )
    assert (run_config.hooks, run_config.loggers, run_config.eval_prompts) == ({}, {}, [])
    assert (run_config.seed, run_config.work_dir) == (0, None)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"adapter": {"type": "lora", "use_dora": True}}, False),
        ({"adapter": {"type": "lora", "use_dora": True}, "quantization": {"type": "nf4"}}, True),
        ({"adapter": {"type": "lora"}, "quantization": {"type": "nf4"}}, False),
        ({"adapter": {"type": "lora"}, "model": {**SMALLEST["model"], "type": "vision_language"}}, True),
    ],
)
def test_models_that_ranks_cannot_read_by_rows_need_full_weights(
    sections: dict[str, Any], expected: bool
) -> None:
    assert build({**SMALLEST, **sections}, RunConfig).needs_full_weights is expected


def test_full_training_of_a_saved_adapter_needs_full_weights_to_merge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_config = build(SMALLEST, RunConfig)
    for adapter in (None, "folder"):
        source = SimpleNamespace(adapter=adapter)
        monkeypatch.setattr(CausalLMConfig, "resolve_source", lambda self, source=source: source)
        assert run_config.needs_full_weights is (adapter is not None)


def test_two_recipes_share_nothing() -> None:
    one, other = build(SMALLEST, RunConfig), build(SMALLEST, RunConfig)
    assert one.training is not other.training
    assert one.hooks is not other.hooks
    assert one.eval_prompts is not other.eval_prompts


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda file: file.stem)
def test_every_shipped_config_builds_without_reading_or_loading(
    leaf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XFT_CACHE", str(tmp_path / "cache"))
    config = load_config(leaf)
    run_config = build(config, RunConfig)
    assert run_config.model.path == config["model"]["path"]
    assert list(run_config.hooks) == list(config["hooks"])
    assert run_config.training.epochs == config["training"]["epochs"]
    assert list(tmp_path.iterdir()) == []


def test_the_qlora_config_becomes_these_objects() -> None:
    run_config = build(load_config(CONFIGS / "smollm2_qlora.py"), RunConfig)
    adapter, quantization = run_config.adapter, run_config.quantization
    assert isinstance(adapter, LoRA)
    assert (adapter.r, adapter.lora_alpha, adapter.lora_dropout) == (16, 32, 0.0)
    assert isinstance(quantization, NF4)
    assert quantization.double_quant is True
    assert isinstance(run_config.data, InstructionData)
    kinds = {
        "training_health": TrainingHealthHook,
        "verify": VerifyHook,
        "progress": ProgressHook,
        "validation": ValidationHook,
        "sample_generation": SampleGenerationHook,
        "checkpoint": CheckpointHook,
    }
    assert {name: type(hook) for name, hook in run_config.hooks.items()} == kinds
    assert isinstance(run_config.optimizer, partial)
    assert run_config.optimizer.func is adamw
    assert run_config.optimizer.keywords == {"lr": 2e-3, "weight_decay": 0.0}


def test_the_pretraining_config_trains_every_token_of_a_text() -> None:
    run_config = build(load_config(CONFIGS / "smollm2_pretrain.py"), RunConfig)
    assert isinstance(run_config.data, TextData)
    assert not run_config.data.uses_template
    assert run_config.data.format({"text": "a"}) == "a"


def test_hooks_are_added_and_removed_from_the_command_line() -> None:
    overrides = {"hooks.early_stopping.type": "early_stopping", "hooks.early_stopping.patience": 2}
    config = load_config(CONFIGS / "smollm2_lora.py", {**overrides, "hooks.sample_generation": None})
    hooks = build(config, RunConfig).hooks
    assert list(hooks) == [
        "training_health",
        "progress",
        "validation",
        "checkpoint",
        "verify",
        "early_stopping",
    ]
    stopping = hooks["early_stopping"]
    assert isinstance(stopping, EarlyStoppingHook)
    assert stopping.patience == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("micro_batch_size", 0),
        ("gradient_accumulation_steps", -1),
        ("max_steps", 0),
        ("epochs", 0),
        ("epochs", -0.5),
        ("max_grad_norm", 0.0),
        ("max_grad_norm", -1.0),
    ],
)
def test_training_value_out_of_range_is_rejected(key: str, value: float) -> None:
    with pytest.raises(ConfigError) as error:
        build({**SMALLEST, "training": {key: value}}, RunConfig)
    assert (error.value.key, error.value.got) == (f"training.{key}", value)


@pytest.mark.parametrize(
    "right", [{"epochs": 0.5}, {"max_steps": 1}, {"max_grad_norm": None}, {"min_steps_per_epoch": 0}]
)
def test_small_trainings_are_accepted(right: dict[str, Any]) -> None:
    training = build({**SMALLEST, "training": right}, RunConfig).training
    ((name, value),) = right.items()
    assert getattr(training, name) == value


def test_a_server_samples_with_adapters_only() -> None:
    config = SMALLEST | {
        "data": {"type": "prompt", "path": "rows.jsonl"},
        "objective": {"type": "grpo"},
        "rewards": {"length": {"type": "length", "max_tokens": 9}},
        "rollout": {"engine": {"type": "openai_server", "url": "http://localhost:8000"}},
    }
    with pytest.raises(ConfigError) as caught:
        build(config, RunConfig)
    assert caught.value.key == "adapter"
    assert isinstance(build(config | {"adapter": {"type": "lora"}}, RunConfig), RunConfig)


@pytest.mark.parametrize("data", [PROMPTS, {"type": "mixture", "datasets": {"a": ANSWERED, "b": PROMPTS}}])
def test_distillation_from_answers_of_rows_needs_rows_that_keep_them(data: dict[str, Any]) -> None:
    config = SMALLEST | {"data": data, "objective": {"type": "gkd", "teacher": "t", "lmbda": 0.7}}
    with pytest.raises(ConfigError) as caught:
        build(config, RunConfig)
    assert (caught.value.key, caught.value.got) == ("objective.lmbda", 0.7)
    on_policy = config | {"objective": {"type": "gkd", "teacher": "t"}}
    for accepted in (config | {"data": ANSWERED}, on_policy):
        assert isinstance(build(accepted, RunConfig), RunConfig)


def test_reward_model_has_no_sample_questions_and_ignores_validation_rows() -> None:
    sections = {
        **SMALLEST,
        "model": {**SMALLEST["model"], "type": "reward_model"},
        "data": {**SMALLEST["data"], "type": "preference"},
        "objective": {"type": "reward"},
    }
    assert build({**sections, "eval_prompts": "val_rows"}, RunConfig).eval_prompts == "val_rows"
    with pytest.raises(ConfigError) as error:
        build({**sections, "eval_prompts": ["Who are you?"]}, RunConfig)
    assert "score" in str(error.value)
