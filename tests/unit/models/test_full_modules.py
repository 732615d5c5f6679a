"""Fully trained modules on a base in bf16: fp32 weights that compute what the base computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model, logits_of, tiny_family
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from xft.errors import ConfigError
from xft.models import NF4, LoRA
from xft.models.adapters import full_modules
from xft.models.adapters.full_modules import downcast_full_modules, upcast_full_modules
from xft.models.adapters.merging import merge
from xft.models.adapters.saved_adapter import continue_adapter, load_adapter, restore_precision
from xft.models.fused_norm_mlp import fuse_modules
from xft.models.memory_estimate import estimate_state_memory

BF16 = torch.bfloat16


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters of a model."""
    return {name: param for name, param in model.named_parameters() if param.requires_grad}


def load(base: Path, *saved: str, **options: Any) -> Any:
    """A model with LoRA next to fully trained modules; the same weights in each call."""
    torch.manual_seed(0)
    adapter = LoRA(r=2, target_modules=["q_proj"], modules_to_save=list(saved))
    return load_model(base, adapter, **{"dtype": "bfloat16", **options})


def step(model: nn.Module, lr: float) -> None:
    """Take one step of AdamW, which changes each weight by about the learning rate."""
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=lr, weight_decay=0.0)
    ids = torch.arange(5, 25)[None]
    model.train()(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    model.zero_grad()
    model.eval()


@pytest.mark.parametrize("saved", ["norm", "lm_head", "mlp", "embed_tokens"])
def test_small_updates_add_up(base: Path, saved: str) -> None:
    model = load(base, saved)
    weights = {name: param for name, param in trainable(model).items() if "lora_" not in name}
    before = {name: param.detach().clone() for name, param in weights.items()}
    step(model, 1e-6)
    assert weights
    for name, param in weights.items():
        assert param.dtype == torch.float32
        assert not torch.equal(param, before[name]), name
        # One update is lost in bf16, most often; many of them are not.
        rounded = before[name].to(BF16)
        assert (param.to(BF16) == rounded).float().mean() > 0.9
        lost = rounded - 1e-6 * torch.sign(before[name] - param).to(BF16)
        assert (lost == rounded).float().mean() > 0.9


KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "all layers": {"target_modules": "all-linear"},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "embeddings": {"target_modules": ["embed_tokens", "lm_head"]},
    "modules": {"modules_to_save": ["embed_tokens", "lm_head", "norm", "mlp"]},
    "new tokens": {"additional_special_tokens": ["<a>", "<b>"]},
    "reward": {"reward": True},
    "nf4": {"quantization": NF4(), "modules_to_save": ["lm_head"]},
    "nf4 dora": {"quantization": NF4(), "use_dora": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_trainable_parameter_is_fp32(base: Path, kind: str) -> None:
    options = {"r": 2, "target_modules": ["q_proj"], **KINDS[kind]}
    sections = {
        name: options.pop(name) for name in ("reward", "additional_special_tokens") if name in options
    }
    quantization = options.pop("quantization", None)
    model = load_model(base, LoRA(**options), quantization, dtype="bfloat16", **sections)
    assert {param.dtype for param in trainable(model).values()} == {torch.float32}
    assert BF16 in {param.dtype for param in model.parameters()}


@pytest.mark.parametrize(
    ("family", "saved", "targets"),
    [
        ("llama", ["embed_tokens", "lm_head"], ["q_proj"]),
        ("llama", ["self_attn", "mlp", "norm"], ["embed_tokens"]),
        ("gemma3_text", ["embed_tokens"], ["q_proj"]),
        ("mixtral", ["gate"], "all"),
        ("qwen3_moe", ["mlp"], ["q_proj"]),
        ("deepseek_v3", ["gate"], ["q_a_proj"]),
        ("mamba2", ["mixer"], ["embeddings"]),
    ],
)
def test_forward_pass_and_gradients_are_those_of_the_base(
    family: str, saved: list[str], targets: str | list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = torch.arange(3, 15)[None]
    results = []
    for upcast in (upcast_full_modules, lambda _: None):
        monkeypatch.setattr("xft.models.adapters.lora.upcast_full_modules", upcast)
        model = tiny_family(family).to(BF16)
        fuse_modules(model)
        torch.manual_seed(0)
        adapted = LoRA(r=2, target_modules=targets, modules_to_save=saved).apply(model, [])
        loss = adapted.train()(input_ids=ids, labels=ids).loss
        loss.backward()
        results.append((adapted, loss))
    (adapted, loss), (plain, expected) = results
    assert torch.equal(loss, expected)
    assert {param.dtype for param in trainable(adapted).values()} == {torch.float32}
    for name, param in trainable(plain).items():
        gradient = trainable(adapted)[name].grad
        if param.grad is not None:
            assert gradient is not None
            # Those of embeddings are summed in fp32.
            torch.testing.assert_close(gradient.to(param.dtype), param.grad, rtol=0.02, atol=1e-3)


def test_gradient_checkpointing_recomputes_with_rounded_weights(base: Path) -> None:
    ids, gradients = torch.arange(5, 25)[None], []
    for checkpointed in (False, True):
        model = load(base, "mlp", gradient_checkpointing=checkpointed).train()
        model(input_ids=ids, labels=ids).loss.backward()
        gradients.append([param.grad for param in trainable(model).values()])
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize(
    "saved", [["norm", "mlp"], ["lm_head"], ["embed_tokens"], ["lm_head", "embed_tokens"]]
)
def test_merged_model_has_one_dtype_and_computes_the_same(
    base: Path, tmp_path: Path, saved: list[str]
) -> None:
    model = load(base, *saved)
    step(model, 1e-2)
    for name, param in trainable(model).items():
        if "lora_B" in name:
            param.data.zero_()  # merging rounds W + B A
    expected = logits_of(model)
    merged: Any = merge(model)
    assert {param.dtype for param in merged.parameters()} == {BF16} == {merged.dtype}
    assert torch.equal(logits_of(merged), expected)
    assert not any(full_modules._ROUNDED in vars(type(module)) for module in merged.modules())
    merged.save_pretrained(tmp_path)
    assert torch.equal(logits_of(AutoModelForCausalLM.from_pretrained(tmp_path, dtype=BF16)), expected)


def test_saved_adapter_is_fp32_and_loads_everywhere(base: Path, tmp_path: Path) -> None:
    model = load(base, "norm", "lm_head")
    step(model, 1e-3)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    loaded = load_adapter(load_model(base, dtype="bfloat16"), tmp_path).eval()
    assert torch.equal(logits_of(loaded), logits_of(model))
    continued = load(base, "norm", "lm_head")
    continue_adapter(continued, tmp_path)
    for one, two in zip(trainable(model).values(), trainable(continued).values(), strict=True):
        assert torch.equal(one, two)
    restore_precision(loaded, tmp_path)
    assert torch.equal(logits_of(loaded), logits_of(model))
    loaded.save_pretrained(tmp_path / "again", save_embedding_layers=False)
    again = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_adapter_that_was_saved_in_bf16_loads(base: Path, tmp_path: Path) -> None:
    model = load(base, "norm")
    step(model, 1e-2)
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    halves = {
        name: tensor if "lora_" in name else tensor.to(BF16) for name, tensor in load_file(file).items()
    }
    save_file(halves, file, {"format": "pt"})
    loaded, continued = load_adapter(load_model(base, dtype="bfloat16"), tmp_path), load(base, "norm")
    continue_adapter(continued, tmp_path)
    assert torch.equal(logits_of(loaded.eval()), logits_of(model))
    assert torch.equal(logits_of(continued.eval()), logits_of(model))
    restore_precision(loaded, tmp_path)
    loaded.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "adapter_model.safetensors")
    assert {name: tensor.dtype for name, tensor in again.items()} == {
        name: tensor.dtype for name, tensor in halves.items()
    }


def test_base_in_fp32_is_left_alone(base: Path) -> None:
    model = load(base, "norm", "lm_head", dtype="float32")
    types = {type(module) for module in model.modules()}
    upcast_full_modules(model)
    downcast_full_modules(model)
    assert types == {type(module) for module in model.modules()}
    assert not any(full_modules._ROUNDED in vars(kind) for kind in types)


def test_tied_weights_stay_tied(base: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=BF16)
    expected = logits_of(model)
    upcast_full_modules(model)
    assert {param.dtype for param in model.parameters()} == {torch.float32}
    assert model.dtype == BF16
    assert torch.equal(logits_of(model), expected)
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    assert head._parameters["weight"] is embeddings._parameters["weight"]
    downcast_full_modules(model)
    assert head.weight is embeddings.weight
    assert head.weight.dtype == BF16


def test_quantized_layer_cannot_be_trained_fully(base: Path) -> None:
    adapter = LoRA(r=2, target_modules=["v_proj"], modules_to_save=["q_proj"])
    for quantization in (NF4(), NF4(quant_storage="bfloat16")):
        with pytest.raises(ConfigError) as error:
            load_model(base, adapter, quantization, dtype="bfloat16")
        assert error.value.key == "adapter.modules_to_save"
        assert "q_proj" in str(error.value.got)


def test_estimate_of_memory_counts_fp32_copies(base: Path) -> None:
    adapter = LoRA(r=2, target_modules=["q_proj"], modules_to_save=["lm_head", "norm"])
    model = load_model(base, adapter, dtype="bfloat16")
    estimate = estimate_state_memory(AutoConfig.from_pretrained(base), adapter)
    assert estimate.parameters == sum(param.nbytes for param in model.parameters())
    assert estimate.gradients == sum(4 * param.numel() for param in trainable(model).values())
