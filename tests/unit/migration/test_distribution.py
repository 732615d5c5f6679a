from typing import Any

import pytest

from xft.migration.arguments import Arguments
from xft.migration.distribution import import_distribution
from xft.migration.draft import CHANGED, TAKEN, Draft


def read(model: str = "causal_lm", optimizer: str = "adamw", **values: Any) -> Draft:
    draft = Draft("tool", {"model": {"type": model}, "optimizer": {"type": optimizer}})
    import_distribution(Arguments(draft, values))
    draft.close(())
    assert draft.unexplained == []
    assert {key for entry in draft.entries for key in entry.keys} >= draft.keys.keys()
    return draft


ZERO_3 = {"stage": 3, "offload_param": {"device": "cpu"}, "overlap_comm": True}


@pytest.mark.parametrize(
    ("values", "strategy"),
    [
        (
            {"deepspeed": "zero2_offload.json"},
            {"type": "deepspeed", "zero_stage": 2, "offload": "optimizer"},
        ),
        ({"deepspeed": "examples/ds_z3_config.json"}, {"type": "deepspeed", "zero_stage": 3}),
        ({"deepspeed": "mine.json"}, {"type": "deepspeed", "zero_stage": 2}),
        (
            {"deepspeed": {"zero_optimization": ZERO_3, "bf16": {"enabled": True}}},
            {"type": "deepspeed", "zero_stage": 3, "offload": "all"},
        ),
        ({"fsdp": "full_shard auto_wrap"}, {"type": "fsdp2"}),
        (
            {
                "fsdp_version": 2,
                "fsdp_config": {"offload_params": True, "transformer_layer_cls_to_wrap": "X"},
            },
            {"type": "fsdp2", "cpu_offload": True},
        ),
        ({"fsdp": [], "fsdp_version": 2}, None),
        ({"context_parallel_size": 2}, {"type": "ddp", "sequence_parallel_size": 2}),
        ({"fsdp": True, "context_parallel_size": 2}, {"type": "fsdp2", "sequence_parallel_size": 2}),
        ({"fsdp": True, "deepspeed": "z1.json"}, {"type": "deepspeed", "zero_stage": 1}),
        ({"fsdp": True, "model": "vision_language"}, {"type": "deepspeed", "zero_stage": 3}),
    ],
)
def test_sharding_is_a_strategy(values: dict[str, Any], strategy: object) -> None:
    assert read(**values).get("strategy") == strategy


def test_a_stage_that_the_name_does_not_say_is_different() -> None:
    kinds = [
        {entry.key: entry.kind for entry in read(deepspeed=name).entries}["deepspeed"]
        for name in ("z3", "x")
    ]
    assert kinds == [TAKEN, CHANGED]


def test_state_of_8_bits_is_not_sharded() -> None:
    assert read(optimizer="adamw_8bit", fsdp=True).get("optimizer.type") == "adamw"
