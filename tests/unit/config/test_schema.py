"""The JSON Schema of configs agrees with ``check``."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from xft.cli import main
from xft.config import check, load_config
from xft.config.schema import json_schema
from xft.errors import ConfigError
from xft.run_config.config import RunConfig

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.py"))
LORA = next(file for file in CONFIGS if file.stem == "smollm2_lora")


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema(RunConfig))


def as_json(config: dict[str, Any]) -> Any:
    return json.loads(json.dumps(config))


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(json_schema(RunConfig))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda file: file.stem)
def test_shipped_config_validates(config: Path) -> None:
    assert list(validator().iter_errors(as_json(load_config(config)))) == []


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "epochs", "many"),
        ("training", "epoch", 1),
        ("optimizer", "lrr", 1.0),
        ("optimizer", "betas", [0.9]),
        ("optimizer", "type", "adam"),
        ("data", "packing", 1),
        ("hooks", "progress", {"interval": 3}),
        ("hooks", "progress", 3),
        ("adapter", "target_modules", [1]),
    ],
)
def test_schema_rejects_what_check_rejects(section: str, key: str, value: Any) -> None:
    config = load_config(LORA)
    config[section] = {**config[section], key: value}
    with pytest.raises(ConfigError):
        check(config, RunConfig)
    assert not validator().is_valid(as_json(config))


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("optimizer", {"type": "adamw", "betas": [0.9, 0.95]}),
        ("optimizer", "torch.optim.AdamW"),
        ("optimizer", {"type": "torch.optim.AdamW", "lr": 1e-4}),
        ("hooks", {"progress": None, "mine": {"type": "early_stopping", "patience": 1}}),
        ("adapter", None),
        ("objective", "sft"),
    ],
)
def test_schema_accepts_what_check_accepts(section: str, value: Any) -> None:
    config = {**load_config(LORA), section: value}
    check(config, RunConfig)
    assert validator().is_valid(as_json(config))


def test_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == as_json(json_schema(RunConfig))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
