"""The JSON of DeepSpeed: filled in from the config, and refused where it says otherwise."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xft.errors import ConfigError
from xft.strategies.deepspeed.config import Facts, make_json, read_asked, read_option, settle, stage_of

FACTS = Facts(
    world_size=4,
    batch_size=2,
    accumulation=8,
    clip=1.0,
    optimizer={"type": "AdamW", "lr": 2e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1},
    num_steps=100,
    warmup=3,
    quarter=(1 + math.cos(math.pi / 4)) / 2,
    dtype="bfloat16",
    trained=10**9,
    hidden=64,
)
# The example of transformers' documentation for its Trainer: every value that a config can say is "auto".
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


def test_every_auto_is_filled_from_the_config_and_shown() -> None:
    settled = settle(EXAMPLE, FACTS, "ds.json")
    assert settled.filled == {
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
    assert "auto" not in json.dumps(settled.values)
    assert settled.values["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": True}


def test_deepspeed_is_left_neither_windows_nor_optimizer() -> None:
    values = settle(EXAMPLE, FACTS, "ds.json").values
    assert not {"optimizer", "scheduler", "train_batch_size"} & values.keys()
    assert values["gradient_accumulation_steps"] == 1
    assert values["managed_gradient_accumulation"] is False
    assert values["bf16"]["check_grad_overflow"] is True


def test_the_file_itself_stays_as_it_was() -> None:
    before = json.dumps(EXAMPLE)
    settle(EXAMPLE, FACTS, "ds.json")
    assert json.dumps(EXAMPLE) == before


def test_all_contradictions_are_listed_with_both_values() -> None:
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
    with pytest.raises(ConfigError) as refused:
        settle(values, FACTS, "ds.json")
    lines = [each.strip() for each in str(refused.value).splitlines()]
    assert lines == [
        "--deepspeed: ds.json: 11 contradictions",
        "curriculum_learning: xft trains without a curriculum; take it out",
        "train_micro_batch_size_per_gpu: ds.json says 4, training.micro_batch_size says 2",
        "train_batch_size: ds.json says 32, training on 4 ranks says 64",
        "gradient_clipping: ds.json says 0.5, training.max_grad_norm says 1.0",
        "bf16.enabled: ds.json says False, a model trained in bfloat16 under stage 2 says True",
        "gradient_allreduce_op: ds.json says 'sum', xft, which weighs by trained tokens itself, says 'mean'",
        "optimizer.type: ds.json says 'Lion', optimizer says 'AdamW'",
        "optimizer.params.lr: ds.json says 0.001, optimizer.lr says 0.0002",
        "scheduler.type: ds.json says 'WarmupDecayLR', lr_scheduler says 'WarmupCosineLR'",
        "scheduler.params.warmup_num_steps: ds.json says 10, lr_scheduler.warmup_steps says 3",
        "zero_optimization.sub_group_size: 'auto' is nothing that xft fills in here",
        "let the config say it, and write 'auto' here",
    ]


@pytest.mark.parametrize(
    ("quarter", "kind"), [(1.0, "WarmupLR"), (0.75, "WarmupDecayLR"), (0.8536, "WarmupCosineLR")]
)
def test_a_schedule_is_known_by_its_shape(quarter: float, kind: str) -> None:
    values = {"scheduler": {"type": kind}, "zero_optimization": {"stage": 1}}
    settle(values, replace(FACTS, quarter=quarter), "ds.json")
    with pytest.raises(ConfigError, match="lr_scheduler says"):
        settle({**values, "scheduler": {"type": "OneCycle"}}, replace(FACTS, quarter=quarter), "ds.json")


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("offload", ["none", "optimizer", "all"])
def test_what_is_made_of_a_stage_contradicts_nothing(stage: int, offload: str) -> None:
    settled = settle(make_json(stage, offload), replace(FACTS, dtype="float32", clip=None), "strategy")
    assert stage_of(settled.values) == stage
    assert settled.values["gradient_clipping"] == 0.0
    assert ("offload_param" in settled.values["zero_optimization"]) == (offload == "all")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("zero1", {"zero": 1}),
        ("zero2_offload", {"zero": 2, "offload": "optimizer"}),
        ("zero3_offload", {"zero": 3, "offload": "all"}),
    ],
)
def test_a_name_says_stage_and_offload(option: str, said: dict[str, Any]) -> None:
    assert read_option(option) == said


def test_a_name_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"got 'zero4', expected zero1, zero2, zero3.*FILE\.json"):
        read_option("zero4")


def test_a_broken_or_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.json"):
        read_asked(None, "none", str(tmp_path / "none.json"))
    (tmp_path / "b.json").write_text("{'a': 1}")
    with pytest.raises(ConfigError, match=r"b\.json is broken JSON"):
        read_asked(None, "none", str(tmp_path / "b.json"))
    with pytest.raises(ConfigError, match="the file says both"):
        read_asked(2, "none", str(tmp_path / "b.json"))
    with pytest.raises(ConfigError, match="expected 0, 1, 2 or 3"):
        stage_of({"zero_optimization": {"stage": 4}})
