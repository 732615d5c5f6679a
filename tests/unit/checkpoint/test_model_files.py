"""A model whose weights are converted while they are saved is written some layers at a time."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mixtures import mixture
from helpers.tiny import tiny_config
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from xft.checkpoint import model_files
from xft.checkpoint.model_files import write_model_files


def _saved(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    """Return what ``save_pretrained`` writes."""
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v3"])
@pytest.mark.parametrize("tied", [True, False])
def test_files_of_layers_have_the_weights_of_save_pretrained(
    family: str, tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "MIN_GROUP_BYTES", 1)
    model = mixture(family, num_hidden_layers=3, tie_word_embeddings=tied)
    expected = _saved(model, tmp_path / "expected")
    sizes, save = [], type(model).save_pretrained

    def watch(*args: Any, state_dict: dict[str, torch.Tensor], **kwargs: Any) -> None:
        sizes.append(sum(weight.nbytes for weight in state_dict.values()))
        save(*args, state_dict=state_dict, **kwargs)

    monkeypatch.setattr(type(model), "save_pretrained", watch)
    write_model_files(model, model.state_dict(), tmp_path / "model")
    files = sorted((tmp_path / "model").glob("*.safetensors"))
    assert [file.name for file in files] == [
        f"model-{number:05}-of-{len(files):05}.safetensors" for number in range(1, len(files) + 1)
    ]
    assert len(sizes) == len(files) >= 3
    assert max(sizes) < 0.5 * sum(sizes)
    index = json.loads((tmp_path / "model" / "model.safetensors.index.json").read_text())["weight_map"]
    found: dict[str, torch.Tensor] = {}
    for file in files:
        weights = load_file(file)
        assert [name for name, place in index.items() if place == file.name] == sorted(weights)
        found |= weights
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    model.config.save_pretrained(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for name, param in loaded.named_parameters():
        assert torch.equal(param, model.get_parameter(name)), name
    assert not [path.name for path in (tmp_path / "model").iterdir() if path.is_dir()]


def test_unconverted_or_small_model_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = mixture("qwen3_moe")
    write_model_files(small, small.state_dict(), tmp_path / "small")
    monkeypatch.setattr(model_files, "MIN_GROUP_BYTES", 1)
    plain = AutoModelForCausalLM.from_config(tiny_config("llama", 50))
    write_model_files(plain, plain.state_dict(), tmp_path / "plain")
    for name, model in (("small", small), ("plain", plain)):
        expected = _saved(model, tmp_path / f"{name}-expected")
        (file,) = (tmp_path / name).glob("*.safetensors*")
        assert load_file(file).keys() == expected.keys()


def test_conversion_across_layers_converts_all_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversion that needs the weights of two layers gives other names for one of them."""
    monkeypatch.setattr(model_files, "MIN_GROUP_BYTES", 1)
    model = mixture("qwen3_moe")
    revert = model_files.revert_weight_conversion

    def across(model: Any, weights: dict[str, Any]) -> dict[str, Any]:
        return revert(model, weights) | ({} if len(weights) == len(model.state_dict()) else {"half": 0})

    monkeypatch.setattr(model_files, "revert_weight_conversion", across)
    write_model_files(model, model.state_dict(), tmp_path / "model")
    assert [file.name for file in (tmp_path / "model").glob("*.safetensors*")] == ["model.safetensors"]
