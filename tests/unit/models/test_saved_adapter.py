"""Saved adapters: what they were trained on, and which are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model, logits_of, plain_model, trained_adapter
from helpers.tiny import save_tiny
from safetensors.torch import load_file, save_file

from xft.errors import ModelError
from xft.models import LoRA, load_saved_model
from xft.models.adapters.saved_adapter import adapter_base, adapter_model_kind, is_adapter, load_adapter


@pytest.fixture(scope="module")
def saved(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "saved"
    trained_adapter(base).save_pretrained(str(folder))
    return folder


@pytest.fixture
def adapter(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved adapter, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "adapter"))


def test_load_adapter_restores_the_saved_outputs(base: Path, saved: Path) -> None:
    model = load_adapter(plain_model(base), saved).eval()
    torch.testing.assert_close(logits_of(model), logits_of(trained_adapter(base)), rtol=1e-5, atol=1e-5)
    assert not any(param.requires_grad for param in model.parameters())
    assert is_adapter(saved)
    assert not is_adapter(base)


def test_load_adapter_without_safetensors_raises_model_error(base: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError) as error:
        load_adapter(plain_model(base), adapter)
    assert error.value.key == f"{adapter}/adapter_model.safetensors"


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_load_adapter_of_other_weights_raises_model_error(base: Path, adapter: Path, change: str) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[0]
    if change == "missing":
        del weights[name]
    elif change == "unexpected":
        weights["base_model.model.other.lora_A.weight"] = torch.zeros(4, 64)
    else:
        weights[name] = torch.zeros(3, 3)
    save_file(weights, file)
    with pytest.raises(ModelError) as error:
        load_adapter(plain_model(base), adapter)
    assert error.value.key == str(adapter)
    assert "\n" not in str(error.value)


def test_adapter_config_tells_base_and_kind(base: Path, adapter: Path) -> None:
    assert adapter_base(adapter) == str(base)
    assert adapter_model_kind(adapter) == "causal_lm"
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"task_type": "SEQ_CLS", "base_model_name_or_path": None}))
    assert adapter_model_kind(adapter) == "reward_model"
    with pytest.raises(ModelError) as error:
        adapter_base(adapter)
    assert error.value.key == f"{adapter}/adapter_config.json"


@pytest.mark.parametrize("text", ["", "{", '{"peft_type": "OTHER"}', "[]"])
def test_corrupt_adapter_config_raises_model_error(adapter: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError) as error:
        adapter_base(adapter)
    assert error.value.key == f"{adapter}/adapter_config.json"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_adapter_that_is_not_finite_is_refused(tmp_path: Path, byte_tokenizer: Any, value: float) -> None:
    base = save_tiny(tmp_path / "base", "llama", byte_tokenizer)
    folder = tmp_path / "adapter"
    load_model(base, LoRA(r=2)).save_pretrained(folder)
    load_saved_model(str(folder))
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[3]
    weights[name] = torch.full_like(weights[name], value)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError) as error:
        load_saved_model(str(folder))
    assert error.value.key == str(folder)
    assert name in str(error.value.got)
