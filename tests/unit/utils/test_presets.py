"""Shipped models with a method: each passes the check, and has the values of its files."""

from pathlib import Path
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

from xft.config import check, load_config, parse_overrides
from xft.errors import ConfigError
from xft.run_config.config import RunConfig
from xft.utils.presets import (
    find_config,
    find_preset,
    name_with_method,
    preset_methods,
    preset_models,
    read_architecture,
    read_docstring,
    runtime_text,
    runtime_values,
)

METHODS = ("dpo", "full", "grpo", "kto", "lora", "orpo", "pretrain", "qlora")


def test_every_method_is_one_file() -> None:
    assert tuple(preset_methods()) == METHODS


@pytest.mark.parametrize("model", preset_models())
def test_shipped_model_passes_the_check(model: str) -> None:
    config = load_config(model)
    check(config, RunConfig, model)
    assert config["quantization"]["type"] == "nf4"
    assert config["data"]["path"] == "my_rows.jsonl"
    assert "_architecture" not in config


@pytest.mark.parametrize("method", METHODS)
def test_methods_differ_in_adapter_objective_and_data(method: str) -> None:
    config = load_config(f"qwen3_8b_{method}")
    check(config, RunConfig, method)
    assert config["model"]["path"] == "Qwen/Qwen3-8B"
    assert config.get("objective", {"type": "sft"}) == {
        "dpo": {"type": "dpo", "beta": 0.1},
        "orpo": {"type": "orpo", "beta": 0.1},
        "kto": {"type": "kto", "beta": 0.1},
        "pretrain": "pretrain",
        "grpo": {"type": "grpo"},
    }.get(method, {"type": "sft"})
    kinds = {
        "dpo": "preference",
        "orpo": "preference",
        "kto": "unpaired_preference",
        "pretrain": "text",
        "grpo": "prompt",
    }
    assert config["data"]["type"] == kinds.get(method, "instruction")
    assert ("quantization" in config) == (method in ("dpo", "orpo", "kto", "grpo", "qlora"))
    assert (config["adapter"] is None) == (method == "full")
    assert config["model"].get("dtype") == ("float32" if method == "full" else None)


def test_overrides_of_a_preset_are_applied() -> None:
    config = load_config("qwen3_8b_orpo", parse_overrides(["adapter.r=4", "data.path=mine.jsonl"]))
    assert (config["adapter"]["r"], config["data"]["path"]) == (4, "mine.jsonl")


def test_leaf_of_a_model_and_a_method_equals_the_preset() -> None:
    assert load_config("internlm_dpo") == load_config("internlm3_8b_dpo")


def test_shipped_leaf_takes_precedence_over_a_preset_of_the_same_name() -> None:
    assert load_config("smollm2_lora")["data"]["path"] == "xft://facts.jsonl"


@pytest.mark.parametrize(
    "name", ["qwen3_8b.py", "configs/qwen3_8b", "qwen3_8b_nothing", "orpo", "qwen3_80b"]
)
def test_other_names_are_no_presets(name: str) -> None:
    assert find_preset(name) is None
    with pytest.raises(ConfigError):
        load_config(name)


def test_file_of_the_current_folder_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("qwen3_8b").mkdir()
    with pytest.raises(ConfigError):
        load_config("qwen3_8b")


@pytest.mark.parametrize(
    ("name", "method", "key"), [("qwen3_80b", "lora", "CONFIG"), ("qwen3_8b", "dora", "--method")]
)
def test_name_with_unknown_model_or_method_raises(name: str, method: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        name_with_method(name, method)
    assert error.value.key == key


@pytest.mark.parametrize(
    "name", [name for name, file in preset_models().items() if read_architecture(file)]
)
def test_architecture_of_a_shipped_model_is_a_config_of_transformers(name: str) -> None:
    import xft.models  # noqa: F401  registers InternLM2

    file = preset_models()[name]
    fields: dict[str, Any] = read_architecture(file)
    config = CONFIG_MAPPING[fields.pop("model_type")](**fields)
    assert all(
        config.to_dict().get(key, value) == value for key, value in fields.items() if key != "layer_types"
    )
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 20
    assert " parameters. Memory without activations: QLoRA " in read_docstring(file)


def test_runtime_text_assigns_the_runtime_values(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(runtime_text(), encoding="utf-8")
    assert load_config(tmp_path / "config.py") == runtime_values()
    assert set(runtime_values()) == {"hooks", "loggers", "eval_prompts", "seed"}


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("missing.py", "`xft copy smollm2_lora missing.py` writes one to begin with"),
        ("my-config", "`xft copy smollm2_lora my-config.py`"),
        ("smolm2_lora.py", "did you mean 'smollm2_lora'"),
        ("configs/qwen3_8b_qlroa.py", "did you mean 'qwen3_8b_qlora'"),
        ("a/qwen3_8b_qlora.py", "`xft copy qwen3_8b_qlora` writes it here"),
        ("suport_bot.py", "did you mean 'support_bot.py'?"),
        ("rows.csv", "`xft list configs` shows the shipped ones"),
    ],
)
def test_config_that_is_missing_is_named_with_the_nearest_one(
    name: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "support_bot.py").touch()
    with pytest.raises(ConfigError) as error:
        find_config(Path(name))
    assert (error.value.key, error.value.got) == ("config", name)
    assert fix in error.value.fix


def test_config_is_a_file_or_the_name_of_a_shipped_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.touch()
    assert find_config(file) == file
    shipped = find_config(Path("smollm2_lora"))
    assert isinstance(shipped, Path)
    assert shipped.is_file()
    assert find_config(Path("qwen3_8b")) == find_preset("qwen3_8b")
