"""Auto values of DeepSpeed's JSON config, and its comparison with the xft config."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from xft.errors import ConfigError
from xft.strategies.batching import Batching
from xft.strategies.deepspeed.config import make_config, stage_of
from xft.strategies.deepspeed.resolve import AutoValues, resolve

AUTO_VALUES = AutoValues(
    world_size=4,
    batching=Batching(micro_batch_size=2, gradient_accumulation_steps=8, num_steps=100, max_grad_norm=1.0),
    optimizer={"type": "AdamW", "lr": 2e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1},
    warmup_steps=3,
    quarter_decay=(1 + math.cos(math.pi / 4)) / 2,
    dtype="bfloat16",
    num_trainable=10**9,
    hidden_size=64,
)


EXAMPLE: dict[str, Any] = {
    "bf16": {"enabled": "auto"},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
    },
    "scheduler": {
        "type": "WarmupCosineLR",
        "params": {"warmup_num_steps": "auto", "total_num_steps": "auto"},
    },
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "overlap_comm": True,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}


def test_resolve_fills_every_auto_value() -> None:
    resolved = resolve(EXAMPLE, AUTO_VALUES, "ds.json")
    assert resolved.filled == {
        "bf16.enabled": True,
        "optimizer.params.lr": 2e-4,
        "optimizer.params.betas": (0.9, 0.999),
        "optimizer.params.eps": 1e-8,
        "optimizer.params.weight_decay": 0.1,
        "scheduler.params.warmup_num_steps": 3,
        "scheduler.params.total_num_steps": 100,
        "zero_optimization.reduce_bucket_size": 200_000_000,
        "zero_optimization.stage3_prefetch_bucket_size": 3686,
        "zero_optimization.stage3_param_persistence_threshold": 640,
        "gradient_accumulation_steps": 8,
        "gradient_clipping": 1.0,
        "train_batch_size": 64,
        "train_micro_batch_size_per_gpu": 2,
    }
    assert "auto" not in json.dumps(resolved.values)
    assert resolved.values["zero_optimization"]["offload_optimizer"] == {
        "device": "cpu",
        "pin_memory": True,
    }


def test_resolve_removes_accumulation_optimizer_and_scheduler() -> None:
    values = resolve(EXAMPLE, AUTO_VALUES, "ds.json").values
    assert not {"optimizer", "scheduler", "train_batch_size"} & values.keys()
    assert values["gradient_accumulation_steps"] == 1
    assert values["managed_gradient_accumulation"] is False
    assert values["bf16"]["check_grad_overflow"] is True


def test_resolve_leaves_its_argument_unchanged() -> None:
    before = json.dumps(EXAMPLE)
    resolve(EXAMPLE, AUTO_VALUES, "ds.json")
    assert json.dumps(EXAMPLE) == before


def test_resolve_lists_all_contradictions_with_both_values() -> None:
    values = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 8,
        "train_batch_size": 32,
        "gradient_clipping": 0.5,
        "bf16": {"enabled": False},
        "optimizer": {"type": "Lion", "params": {"lr": 1e-3, "betas": [0.9, 0.999]}},
        "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 10}},
        "gradient_allreduce_op": "sum",
        "curriculum_learning": {"enabled": True},
        "zero_optimization": {"stage": 2, "sub_group_size": "auto"},
    }
    with pytest.raises(ConfigError) as error:
        resolve(values, AUTO_VALUES, "ds.json")
    source = "xft, which weights by target tokens"
    assert error.value.got == [
        "curriculum_learning: curriculum learning is not supported; remove it",
        "train_micro_batch_size_per_gpu: got 4; expected 2 from training.micro_batch_size",
        "train_batch_size: got 32; expected 64 from 4 ranks",
        "gradient_clipping: got 0.5; expected 1.0 from training.max_grad_norm",
        "bf16.enabled: got False; expected True from a model in bfloat16 under stage 2",
        f"gradient_allreduce_op: got 'sum'; expected 'mean' from {source}",
        "optimizer.type: got 'Lion'; expected 'AdamW' from optimizer",
        "optimizer.params.lr: got 0.001; expected 0.0002 from optimizer.lr",
        "scheduler.type: got 'WarmupDecayLR'; expected 'WarmupCosineLR' from lr_scheduler",
        "scheduler.params.warmup_num_steps: got 10; expected 3 from lr_scheduler.warmup_steps",
        "zero_optimization.sub_group_size: 'auto' is not supported here",
    ]
    assert str(error.value).startswith("strategy: ds.json: 11 contradictions\n  curriculum_learning")


@pytest.mark.parametrize(
    ("quarter", "kind"), [(1.0, "WarmupLR"), (0.75, "WarmupDecayLR"), (0.8536, "WarmupCosineLR")]
)
def test_resolve_recognizes_a_scheduler_by_its_shape(quarter: float, kind: str) -> None:
    values = {"scheduler": {"type": kind}, "zero_optimization": {"stage": 1}}
    resolve(values, replace(AUTO_VALUES, quarter_decay=quarter), "ds.json")
    with pytest.raises(ConfigError, match="from lr_scheduler"):
        resolve(
            {**values, "scheduler": {"type": "OneCycle"}},
            replace(AUTO_VALUES, quarter_decay=quarter),
            "ds.json",
        )


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("offload", ["none", "optimizer", "all"])
def test_make_config_resolves_without_contradiction(stage: int, offload: str) -> None:
    resolved = resolve(
        make_config(stage, offload),
        replace(AUTO_VALUES, dtype="float32", batching=replace(AUTO_VALUES.batching, max_grad_norm=None)),
        "strategy",
    )
    assert stage_of(resolved.values) == stage
    assert resolved.values["gradient_clipping"] == 0.0
    assert ("offload_param" in resolved.values["zero_optimization"]) == (offload == "all")
