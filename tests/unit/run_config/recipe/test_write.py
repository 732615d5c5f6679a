"""A config that fits model, rows and machine."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import save_tiny

from xft.config import build, check, load_config
from xft.errors import ConfigError
from xft.run_config.config import SECTION_ORDER, RunConfig
from xft.run_config.recipe.method import read_method
from xft.run_config.recipe.model_facts import inspect_model
from xft.run_config.recipe.row_facts import RowFacts
from xft.run_config.recipe.write import choose_length, choose_micro_batch, write_recipe
from xft.utils.presets import preset_methods, runtime_values

ROWS: dict[str, dict[str, Any]] = {
    "instruction": {"question": "Hi", "answer": "Hello"},
    "preference": {"prompt": "Hi", "chosen": "A", "rejected": "B"},
    "unpaired_preference": {"prompt": "Hi", "completion": "A", "label": True},
    "text": {"text": "Once upon a time"},
    "prompt": {"prompt": "What is 1 + 1?", "reference": "2"},
}


@pytest.fixture
def model(tmp_path: Path, byte_tokenizer: Any) -> str:
    return str(save_tiny(tmp_path / "tiny", "llama", byte_tokenizer))


def write_rows(folder: Path, kind: str) -> str:
    file = folder / 'my "rows".jsonl'
    file.write_text(json.dumps(ROWS[kind]) + "\n" + json.dumps(ROWS[kind]) + "\n", encoding="utf-8")
    return str(file)


def facts(*lengths: int, measured: bool = True) -> RowFacts:
    return RowFacts("rows", "instruction", {"type": "alpaca"}, len(lengths), lengths, measured)


@pytest.mark.parametrize("method", preset_methods())
def test_the_config_of_every_method_is_short_and_passes_the_check(
    method: str, tmp_path: Path, model: str
) -> None:
    data = write_rows(tmp_path, read_method(method).kind)
    recipe = write_recipe(model, data, method, 16)
    assert recipe.name == f"tiny_{method}"
    assert len(recipe.text.splitlines()) <= 40
    file = tmp_path / "config.py"
    file.write_text(recipe.text, encoding="utf-8")
    config = load_config(file)
    assert config == load_config(file, safe_config=True)
    check(config, RunConfig)
    built = build(config, RunConfig)
    assert built.data.paths == [data]  # type: ignore[union-attr]
    assert (built.quantization is not None) == (read_method(method).weights == "qlora")
    assert (built.adapter is None) == (method == "full")
    assert list(config) == [key for key in SECTION_ORDER if key in config]
    assert {key: config[key] for key in runtime_values()} == {
        **runtime_values(),
        "eval_prompts": "val_rows",
    }


def test_without_a_gpu_pairs_are_trained_on_weights_in_16_bits(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = write_recipe(model, write_rows(tmp_path, "preference"))
    assert recipe.name == "tiny_orpo"
    assert "quantization" not in recipe.text
    assert "quantization" in write_recipe(model, write_rows(tmp_path, "preference"), memory_gb=16).text


def test_names_of_rows_cannot_end_the_docstring(tmp_path: Path, model: str) -> None:
    data = tmp_path / 'a""" + 1 #\n\\.jsonl'
    data.write_text(json.dumps(ROWS["instruction"]) + "\n", encoding="utf-8")
    file = tmp_path / "config.py"
    file.write_text(write_recipe(model, str(data)).text, encoding="utf-8")
    assert load_config(file, safe_config=True)["data"]["path"] == str(data)


def test_an_unknown_method_is_an_error(tmp_path: Path, model: str) -> None:
    with pytest.raises(ConfigError) as caught:
        write_recipe(model, write_rows(tmp_path, "instruction"), "qlra")
    assert caught.value.key == "--method"
    assert "'qlora'" in caught.value.fix


@pytest.mark.parametrize(
    ("rows", "positions", "length"),
    [
        (facts(10, 20), None, 128),
        (facts(500, 510), None, 512),
        (facts(500, 510, measured=False), None, 640),
        (facts(*[300] * 500, 4000), None, 320),
        (facts(9000, 9999), None, 8192),
        (facts(3000, 3000), 2048, 2048),
    ],
)
def test_length_by_the_percentiles_of_the_rows(rows: RowFacts, positions: int | None, length: int) -> None:
    assert choose_length(rows, positions) == length


def test_micro_batch_grows_with_the_memory_and_too_little_is_noted() -> None:
    model = inspect_model("qwen3_8b")
    sizes = [
        choose_micro_batch(model, read_method("qlora"), 2048, memory * 1e9)[0] for memory in (10, 24, 80)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1 < sizes[-1] <= 8
    size, note = choose_micro_batch(model, read_method("full"), 2048, 24e9)
    assert size == 1
    assert "qlora" in note
    assert choose_micro_batch(model, read_method("qlora"), 2048, 24e9)[1] == ""


@pytest.mark.parametrize(
    ("method", "advice"), [("orpo", "smaller model"), ("lora", "nf4"), ("pretrain", "nf4")]
)
def test_advice_on_memory_fits_the_weights(method: str, advice: str) -> None:
    note = choose_micro_batch(inspect_model("qwen3_8b"), read_method(method), 2048, 4e9)[1]
    assert advice in note
    assert "--method" not in note
