"""What the command line says of the strategy, over what the config says."""

from pathlib import Path
from typing import Any

import pytest

from xft.errors import ConfigError
from xft.training.train import TrainOptions, _read_config

CONFIG = """
model = dict(type="causal_lm", path="xft://smollm2-135m-instruct")
data = dict(type="instruction", path="rows.jsonl")
"""


def strategy(folder: Path, said: str, **options: Any) -> Any:
    """The strategy of a run whose config ends with ``said``."""
    config = folder / "c.py"
    config.write_text(CONFIG + said, encoding="utf-8")
    return _read_config(TrainOptions(str(config), **options)).get("strategy")


@pytest.mark.parametrize(
    ("said", "options", "expected"),
    [
        ("", {}, None),
        ("", {"sequence_parallel_size": 2}, {"type": "ddp", "sequence_parallel_size": 2}),
        (
            "strategy = 'single_device'",
            {"sequence_parallel_size": 2},
            {"type": "ddp", "sequence_parallel_size": 2},
        ),
        ("strategy = 'ddp'", {"sequence_parallel_size": 2}, {"type": "ddp", "sequence_parallel_size": 2}),
        (
            "",
            {"sequence_parallel_size": 2, "overrides": ["strategy.device=cpu"]},
            {"type": "ddp", "device": "cpu", "sequence_parallel_size": 2},
        ),
        ("strategy = 'ddp'", {"deepspeed": "zero2"}, {"type": "deepspeed", "zero_stage": 2}),
        (
            "strategy = dict(device='cpu')",
            {"sequence_parallel_size": 2, "deepspeed": "zero3"},
            {"type": "deepspeed", "zero_stage": 3, "device": "cpu", "sequence_parallel_size": 2},
        ),
        (
            "strategy = dict(type='deepspeed', zero_stage=2, timeout_minutes=3)",
            {"deepspeed": "zero3"},
            {"type": "deepspeed", "zero_stage": 3, "timeout_minutes": 3},
        ),
    ],
)
def test_flags_change_what_they_name_and_keep_the_rest(
    tmp_path: Path, said: str, options: dict[str, Any], expected: Any
) -> None:
    assert strategy(tmp_path, said, **options) == expected


@pytest.mark.parametrize("options", [{}, {"sequence_parallel_size": 2}])
def test_a_strategy_without_a_type_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="strategy: 'type' is missing"):
        strategy(tmp_path, "strategy = dict(device='cpu')", **options)
