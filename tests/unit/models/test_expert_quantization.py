"""NF4 weights of fused experts: their size, their numbers, and adapters on them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mixtures import mixture, train_adapter
from helpers.models import PROBE_IDS, logits_of, plain_model
from torch import Tensor

from xft.models import NF4, Int8, LoRA
from xft.models.adapters.merging import merge
from xft.models.adapters.saved_adapter import load_adapter
from xft.models.experts import find_experts
from xft.models.loading import load_weights
from xft.models.param_shapes import num_params

CPU = torch.device("cpu")


def _load(folder: Path, quantization: NF4 | Int8 | None = None) -> Any:
    return load_weights(str(folder), torch.float32, quantization=quantization, device=CPU).eval()


@pytest.fixture(params=["qwen3_moe", "gpt_oss", "deepseek_v3", "llama4_text"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    mixture(request.param).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_experts_are_stored_in_4_bits_and_close_to_their_numbers(folder: Path) -> None:
    plain, quantized = _load(folder), _load(folder, NF4())
    assert sum(map(num_params, quantized.parameters())) == sum(map(num_params, plain.parameters()))
    names = find_experts(quantized).parameters  # type: ignore[union-attr]
    assert names == find_experts(plain).parameters  # type: ignore[union-attr]
    for name in names:
        module, _, key = name.rpartition(".")
        packed = quantized.get_submodule(module).parametrizations[key].original
        exact, rounded = (getattr(model.get_submodule(module), key) for model in (plain, quantized))
        assert 2 * packed.nbytes == exact.numel()
        assert 0.05 < (rounded - exact).norm() / exact.norm() < 0.15


def test_adapter_on_nf4_experts_is_saved_as_one_of_a_16_bit_base(folder: Path, tmp_path: Path) -> None:
    base = logits_of(_load(folder, NF4()))
    model = LoRA(r=4, target_modules="all").apply(_load(folder, NF4()), [])
    assert torch.equal(logits_of(model.eval()), base)
    expected = logits_of(train_adapter(model))
    model.save_pretrained(str(tmp_path))
    assert torch.equal(logits_of(load_adapter(_load(folder, NF4()), tmp_path).eval()), expected)
    names = dict(train_adapter(LoRA(r=4, target_modules="all").apply(_load(folder), [])).named_parameters())
    for name, param in model.named_parameters():
        if "lora_" in name:
            assert torch.equal(param, names[name]), name


def test_adapter_is_merged_into_the_dequantized_experts(folder: Path, tmp_path: Path) -> None:
    model = train_adapter(LoRA(r=4, target_modules="all").apply(_load(folder, NF4()), []))
    expected = logits_of(model)
    model.save_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="quantized"):
        merge(model)
    merged = merge(load_adapter(_load(folder, NF4()).dequantize(torch.float32), tmp_path))
    merged.save_pretrained(tmp_path / "merged")
    plain = plain_model(tmp_path / "merged")
    torch.testing.assert_close(
        logits_of(plain), expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
    )


def _gradients(model: Any) -> list[Tensor]:
    model.train()
    model(input_ids=PROBE_IDS, labels=PROBE_IDS).loss.backward()
    return [param.grad for param in model.parameters() if param.requires_grad]


@pytest.mark.parametrize("targets", ["attention", "all"])
def test_gradients_are_those_of_the_dequantized_weights(folder: Path, targets: str) -> None:
    quantized = train_adapter(LoRA(r=4, target_modules=targets).apply(_load(folder, NF4()), []))
    plain = train_adapter(LoRA(r=4, target_modules=targets).apply(_dequantized(folder), []))
    for grad, expected in zip(_gradients(quantized), _gradients(plain), strict=True):
        torch.testing.assert_close(grad, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def _dequantized(folder: Path) -> Any:
    """A plain model with the numbers of the quantized one."""
    quantized, plain = _load(folder, NF4()), _load(folder)
    for name, module in plain.named_modules():
        other: Any = quantized.get_submodule(name)
        for key, param in module.named_parameters(recurse=False):
            weight = getattr(other, key)
            if hasattr(weight, "quant_state"):
                from bitsandbytes.functional import dequantize_4bit

                weight = dequantize_4bit(weight.data, weight.quant_state)
            param.data = weight.detach().clone()
    return plain


def test_int8_leaves_experts_as_they_are(tmp_path: Path) -> None:
    mixture("qwen3_moe").save_pretrained(tmp_path)
    model = _load(tmp_path, Int8())
    assert model.model.layers[0].mlp.experts.gate_up_proj.dtype == torch.float32
    assert model.model.layers[0].self_attn.q_proj.weight.dtype == torch.int8
