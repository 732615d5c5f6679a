"""Adapter norms against the norm of the materialized product."""

from typing import Any

import pytest
import torch
from helpers.mixtures import mixture, train_adapter
from helpers.tiny import tiny_config
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from xft.errors import CheckpointError
from xft.export.verify.adapter_norms import (
    adapter_norms,
    check_adapter_nonzero,
    summarize_norms,
    trains_other_params,
)
from xft.models import LoRA


def _model(std: float = 0.1, **options: Any) -> Any:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(tiny_config("llama", 97))
    config = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", **options)
    model = get_peft_model(base, config)
    for name, param in model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name or "lora_embedding_B" in name:
            nn.init.normal_(param, std=std)
    return model


def test_adapter_norms_equal_the_norm_of_scaling_b_a() -> None:
    """fp64 against the fp32 product: 24 bits, so 1e-5 is wide."""
    model = _model()
    norms = adapter_norms(model)
    weights = dict(model.named_parameters())
    assert len(norms) == 14  # two layers of seven linear ones
    for layer, norm in norms.items():
        a, b = (weights[f"base_model.model.{layer}.lora_{factor}.default.weight"] for factor in "AB")
        expected = float(torch.linalg.matrix_norm(12 / 4 * b @ a).detach())
        assert norm == pytest.approx(expected, rel=1e-5)


def test_adapter_norms_equal_the_change_by_merging() -> None:
    model = _model()
    norms = adapter_norms(model)
    before = {name: weight.clone() for name, weight in model.get_base_model().state_dict().items()}
    merged = model.merge_and_unload().state_dict()
    for layer, norm in norms.items():
        change = merged[f"{layer}.weight"] - before[f"{layer}.base_layer.weight"]
        assert norm == pytest.approx(float(change.norm()), rel=1e-4)


def test_adapter_norms_of_fused_experts_equal_the_change_by_merging() -> None:
    model = train_adapter(LoRA(r=2, lora_alpha=8, target_modules="experts").apply(mixture("qwen3_moe"), []))
    norms = adapter_norms(model)
    before = {name: weight.clone() for name, weight in mixture("qwen3_moe").state_dict().items()}
    merged = model.merge_and_unload().state_dict()
    changes = [
        float((merged[name] - before[name]).norm())
        for name in before
        if "_proj" in name and ".experts" in name
    ]
    assert sorted(norms.values()) == pytest.approx(sorted(changes), rel=1e-4)


def test_adapter_norms_include_embeddings() -> None:
    base = AutoModelForCausalLM.from_config(tiny_config("llama", 97))
    model: Any = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=["embed_tokens"]))
    layer = model.get_base_model().get_input_embeddings()
    a, b = (getattr(layer, f"lora_embedding_{factor}")["default"] for factor in "AB")
    nn.init.normal_(a)
    nn.init.normal_(b)
    expected = float(torch.linalg.matrix_norm(2 * b @ a).detach())
    assert adapter_norms(model) == {"model.embed_tokens": pytest.approx(expected, rel=1e-5)}


def test_adapter_norms_without_adapter_is_empty() -> None:
    assert adapter_norms(nn.Linear(2, 2)) == {}


def test_check_adapter_nonzero_refuses_a_new_adapter() -> None:
    norms = adapter_norms(_model(std=0.0))
    assert set(norms.values()) == {0.0}
    with pytest.raises(CheckpointError) as error:
        check_adapter_nonzero(norms, False, "run")
    assert (error.value.key, error.value.got) == ("run: adapter", "zeros in all 14 layers")


def test_check_adapter_nonzero_accepts_one_changed_parameter() -> None:
    norms = adapter_norms(_model(std=0.0))
    check_adapter_nonzero(norms, True, "run")
    check_adapter_nonzero(norms | {"model.layers.0.mlp.up_proj": 0.1}, False, "run")


def test_trains_other_params_with_full_layers_or_new_tokens() -> None:
    assert not trains_other_params(_model())
    assert trains_other_params(_model(modules_to_save=["norm"]))
    assert trains_other_params(_model(trainable_token_indices=[3]))


def test_summarize_norms_counts_zeros() -> None:
    norms = {"a": 1.0, "b": 3.0, "c": 2.0}
    assert summarize_norms(norms) == "adapter norms ‖ΔW‖ of 3 layers: min 1, median 2, max 3"
    assert summarize_norms({**norms, "d": 0.0}).endswith("; 1 zero (e.g. d)")
