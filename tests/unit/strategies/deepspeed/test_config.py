"""Making and reading DeepSpeed's JSON config."""

from pathlib import Path
from typing import Any

import pytest

from xft.errors import ConfigError
from xft.strategies.deepspeed.config import load_config, parse_cli_option, stage_of


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("zero1", {"zero_stage": 1}),
        ("zero2_offload", {"zero_stage": 2, "offload": "optimizer"}),
        ("zero3_offload", {"zero_stage": 3, "offload": "all"}),
    ],
)
def test_parse_cli_option_preset_returns_stage_and_offload(option: str, said: dict[str, Any]) -> None:
    assert parse_cli_option(option) == said


def test_parse_cli_option_unknown_name_raises() -> None:
    with pytest.raises(ConfigError) as error:
        parse_cli_option("zero4")
    assert (error.value.key, error.value.got) == ("--deepspeed", "zero4")
    assert error.value.expected.startswith("zero1, zero2, zero3")


def test_load_config_unusable_file_raises(tmp_path: Path) -> None:
    missing, broken, array = (str(tmp_path / name) for name in ("none.json", "broken.json", "array.json"))
    Path(broken).write_text("{'a': 1}")
    Path(array).write_text("[]")
    for path, got in ((missing, missing), (broken, broken), (array, "list")):
        with pytest.raises(ConfigError) as error:
            load_config(None, "none", path)
        assert (error.value.key, error.value.got) == ("strategy.config_file", got)


def test_load_config_file_and_stage_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(2, "none", str(tmp_path / "a.json"))
    assert error.value.key == "strategy"


def test_stage_of_unknown_stage_raises() -> None:
    with pytest.raises(ConfigError) as error:
        stage_of({"zero_optimization": {"stage": 4}})
    assert (error.value.key, error.value.got) == ("zero_optimization.stage", 4)
