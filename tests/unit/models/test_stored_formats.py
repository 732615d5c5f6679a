"""Bases in other number formats: dequantized, frozen below an adapter, or refused before anything is loaded."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mixtures import mixture, train_adapter
from helpers.models import PROBE_IDS, load_model, logits_of
from helpers.stored_formats import store
from helpers.tiny import save_tiny
from safetensors.torch import load_file
from torch import Tensor

from xft.errors import ConfigError, ModelError
from xft.models import NF4, Int8, LoRA
from xft.models.adapters.saved_adapter import load_adapter
from xft.models.experts import find_experts
from xft.models.loading import load_weights
from xft.models.stored_formats import FROZEN

CPU = torch.device("cpu")
PACKAGES = {
    "compressed-tensors": ["compressed_tensors"],
    "gptq": ["gptqmodel", "optimum"],
    "awq": ["gptqmodel"],
}


def _stored(tmp_path: Path, method: str, tokenizer: Any) -> tuple[Path, dict[str, Tensor]]:
    """A folder with a model in a number format, and the numbers of its weights."""
    missing = [package for package in PACKAGES.get(method, []) if find_spec(package) is None]
    if missing:
        pytest.skip(f"{missing} not installed: optional packages that read the format {method}")
    folder = tmp_path / "plain"
    if method in ("fp8", "mxfp4"):
        family = {"fp8": "qwen3_moe", "mxfp4": "gpt_oss"}[method]
        sizes = {
            "hidden_size": 64,
            "intermediate_size": 64,
            "moe_intermediate_size": 32,
            "num_key_value_heads": 4,
        }
        mixture(family, vocab_size=len(tokenizer), **sizes).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    else:
        save_tiny(folder, "llama", tokenizer)
    return tmp_path / method, store(folder, tmp_path / method, method)


@pytest.mark.parametrize("method", ["fp8", "mxfp4", "compressed-tensors"])
def test_floating_point_formats_become_ordinary_weights(
    tmp_path: Path, method: str, byte_tokenizer: Any
) -> None:
    folder, numbers = _stored(tmp_path, method, byte_tokenizer)
    model = load_weights(str(folder), torch.float32, device=CPU)
    model.save_pretrained(tmp_path / "again")
    assert "quantization_config" not in json.loads((tmp_path / "again" / "config.json").read_text())
    assert {param.dtype for param in model.parameters()} == {torch.float32}
    saved = load_file(tmp_path / "again" / "model.safetensors")
    assert saved.keys() == numbers.keys()
    for name, weight in saved.items():
        torch.testing.assert_close(
            weight, numbers[name], rtol=1e-2, atol=1e-3 * float(weight.abs().max()), msg=name
        )


@pytest.mark.parametrize("method", ["fp8", "mxfp4"])
def test_floating_point_formats_can_be_quantized_to_nf4(
    tmp_path: Path, method: str, byte_tokenizer: Any
) -> None:
    folder, _ = _stored(tmp_path, method, byte_tokenizer)
    plain = load_weights(str(folder), torch.float32)
    plain.save_pretrained(tmp_path / "dequantized")
    expected = load_weights(
        str(tmp_path / "dequantized"), torch.float32, quantization=NF4(), device=CPU
    ).eval()
    model = load_weights(str(folder), torch.float32, quantization=NF4(), device=CPU).eval()
    assert torch.equal(logits_of(model), logits_of(expected))
    names = find_experts(model).parameters  # type: ignore[union-attr]
    assert len(names) == 4
    adapted = train_adapter(LoRA(r=2, target_modules="all").apply(model, []))
    adapted(input_ids=PROBE_IDS, labels=PROBE_IDS).loss.backward()


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_integer_formats_are_frozen_bases_of_an_adapter(
    tmp_path: Path, method: str, byte_tokenizer: Any
) -> None:
    folder, _ = _stored(tmp_path, method, byte_tokenizer)
    base = logits_of(load_weights(str(folder), torch.float32, device=CPU).eval())
    model = load_model(folder, LoRA(r=2))
    assert torch.equal(logits_of(model.eval()), base)
    expected = logits_of(train_adapter(model))
    model.train()(input_ids=PROBE_IDS, labels=PROBE_IDS).loss.backward()
    trained = [name for name, param in model.named_parameters() if param.requires_grad]
    assert len(trained) == 2 * 7 * 2
    model.save_pretrained(str(tmp_path / "adapter"))
    again = load_adapter(load_weights(str(folder), torch.float32, device=CPU), tmp_path / "adapter")
    assert torch.equal(logits_of(again.eval()), expected)


def _declare(base: Path, tmp_path: Path, method: str) -> Path:
    folder = tmp_path / "declared"
    folder.mkdir()
    for file in base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": method}})
    )
    return folder


@pytest.mark.parametrize("method", ["gptq", "awq", "compressed-tensors"])
def test_missing_package_is_named_before_loading(
    base: Path, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xft.models.stored_formats.find_spec", lambda _: None)
    with pytest.raises(ModelError) as error:
        load_model(_declare(base, tmp_path, method), LoRA(r=2))
    assert error.value.key == "model.path"
    assert method in str(error.value.got)
    assert f"pip install {PACKAGES[method][0].replace('_', '-')}" in error.value.fix


def test_unknown_format_is_refused_before_loading(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        load_model(_declare(base, tmp_path, "aqlm"), LoRA(r=2))
    assert (error.value.key, "'aqlm'" in str(error.value.got)) == ("model.path", True)


@pytest.mark.parametrize(("method", "quantization"), [("bitsandbytes", NF4()), ("fp8", Int8())])
def test_second_quantization_is_refused(base: Path, tmp_path: Path, method: str, quantization: Any) -> None:
    with pytest.raises(ConfigError) as error:
        load_model(_declare(base, tmp_path, method), LoRA(r=2), quantization)
    assert error.value.key == "quantization"


@pytest.mark.parametrize("method", FROZEN)
def test_packed_weights_are_not_trained(base: Path, tmp_path: Path, method: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_model(_declare(base, tmp_path, method))
    assert error.value.key == "adapter"
