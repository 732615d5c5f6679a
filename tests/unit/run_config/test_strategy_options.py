"""The options of the command line choose the strategy, and overrides are keys of that strategy."""

import subprocess
import sys
from typing import Any

import pytest

from xft.errors import ConfigError
from xft.run_config.strategy_options import StrategyOptions, parse_cli_option


@pytest.mark.parametrize(
    ("section", "options", "overrides", "expected"),
    [
        (None, {}, {}, None),
        ("single_device", {}, {}, "single_device"),
        (None, {"is_launched": True}, {}, None),
        ("ddp", {"fsdp": True}, {}, {"type": "fsdp2"}),
        (
            None,
            {"fsdp": True},
            {"sequence_parallel_size": 2, "cpu_offload": True, "reshard_after_forward": False},
            {
                "type": "fsdp2",
                "sequence_parallel_size": 2,
                "cpu_offload": True,
                "reshard_after_forward": False,
            },
        ),
        (
            "ddp",
            {"deepspeed": "zero2"},
            {"zero_stage": 3, "offload": "all"},
            {"type": "deepspeed", "zero_stage": 3, "offload": "all"},
        ),
        (None, {"fsdp": True}, {"cpu_ofload": True}, {"type": "fsdp2", "cpu_ofload": True}),
        (None, {"is_launched": True}, {"timeout_minutes": 9}, {"type": "ddp", "timeout_minutes": 9}),
        (
            None,
            {"sequence_parallel_size": 2},
            {"timeout_minutes": 9},
            {"type": "ddp", "timeout_minutes": 9, "sequence_parallel_size": 2},
        ),
        (None, {"fsdp": True}, {"type": "fsdp2"}, {"type": "fsdp2"}),
        (
            None,
            {"sequence_parallel_size": 2},
            {"type": "single_device", "mixed_precision": "bf16"},
            {"type": "ddp", "mixed_precision": "bf16", "sequence_parallel_size": 2},
        ),
    ],
)
def test_overrides_are_keys_of_the_chosen_strategy(
    section: Any, options: dict[str, Any], overrides: dict[str, Any], expected: Any
) -> None:
    config = {} if section is None else {"strategy": section}
    if overrides:
        before = {"type": section or "single_device"}
        config["strategy"] = before | overrides
    StrategyOptions(**options).apply(config, {f"strategy.{key}": value for key, value in overrides.items()})
    assert config.get("strategy") == expected


@pytest.mark.parametrize(
    ("options", "overrides"),
    [
        ({"fsdp": True, "deepspeed": "zero2"}, {}),
        ({"fsdp": True}, {"strategy.type": "ddp"}),
        ({"fsdp": True}, {"strategy": "ddp"}),
    ],
)
def test_contradictions_are_refused(options: dict[str, Any], overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        StrategyOptions(**options).apply({}, overrides)
    assert caught.value.key == "--fsdp"


@pytest.mark.parametrize(
    ("option", "keys"),
    [
        ("zero1", {"zero_stage": 1}),
        ("zero2_offload", {"zero_stage": 2, "offload": "optimizer"}),
        ("zero3_offload", {"zero_stage": 3, "offload": "all"}),
    ],
)
def test_parse_cli_option_preset_returns_stage_and_offload(option: str, keys: dict[str, Any]) -> None:
    assert parse_cli_option(option) == keys


def test_parse_cli_option_unknown_name_raises() -> None:
    with pytest.raises(ConfigError) as error:
        parse_cli_option("zero4")
    assert (error.value.key, error.value.got) == ("--deepspeed", "zero4")
    assert error.value.expected.startswith("zero1, zero2, zero3")


def test_the_options_are_applied_without_torch() -> None:
    code = "import sys, xft.run_config.strategy_options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
