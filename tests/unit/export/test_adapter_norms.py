"""Adapter norms against the product that they are the norm of."""

from typing import Any

import pytest
import torch
from helpers.tiny import tiny_config
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from xft.errors import CheckpointError
from xft.export.adapter_norms import adapter_norms, check_learnt, summarise, trains_more


def _model(std: float = 0.1, **options: Any) -> Any:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(tiny_config("llama", 97))
    config = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", **options)
    model = get_peft_model(base, config)
    for name, each in model.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name or "lora_embedding_B" in name:
            nn.init.normal_(each, std=std)
    return model


def test_the_norm_of_each_layer_is_that_of_scaling_b_a() -> None:
    """fp64 against the fp32 product: 24 bits, so 1e-5 is wide."""
    model = _model()
    norms = adapter_norms(model)
    weights = dict(model.named_parameters())
    assert len(norms) == 14  # two layers of seven linear ones
    for layer, norm in norms.items():
        a, b = (weights[f"base_model.model.{layer}.lora_{each}.default.weight"] for each in "AB")
        expected = float(torch.linalg.matrix_norm(12 / 4 * b @ a).detach())
        assert norm == pytest.approx(expected, rel=1e-5)


def test_the_norm_is_that_of_what_merging_adds() -> None:
    model = _model()
    norms = adapter_norms(model)
    before = {name: each.clone() for name, each in model.get_base_model().state_dict().items()}
    merged = model.merge_and_unload().state_dict()
    for layer, norm in norms.items():
        change = merged[f"{layer}.weight"] - before[f"{layer}.base_layer.weight"]
        assert norm == pytest.approx(float(change.norm()), rel=1e-4)


def test_an_adapter_on_the_embeddings_counts() -> None:
    base = AutoModelForCausalLM.from_config(tiny_config("llama", 97))
    model: Any = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules=["embed_tokens"]))
    layer = model.get_base_model().get_input_embeddings()
    a, b = (getattr(layer, f"lora_embedding_{each}")["default"] for each in "AB")
    nn.init.normal_(a)
    nn.init.normal_(b)
    expected = float(torch.linalg.matrix_norm(2 * b @ a).detach())
    assert adapter_norms(model) == {"model.embed_tokens": pytest.approx(expected, rel=1e-5)}


def test_a_whole_model_has_no_norms() -> None:
    assert adapter_norms(nn.Linear(2, 2)) == {}


def test_a_new_adapter_is_zero_and_is_not_the_result_of_a_training() -> None:
    norms = adapter_norms(_model(std=0.0))
    assert set(norms.values()) == {0.0}
    with pytest.raises(CheckpointError, match="zero in all of its 14 layers: nothing was learnt"):
        check_learnt(norms, False, "run")
    check_learnt(norms, True, "run")  # what is trained beside A and B may have learnt
    check_learnt(norms | {"model.layers.0.mlp.up_proj": 0.1}, False, "run")


def test_whole_layers_beside_the_adapter_are_known() -> None:
    assert not trains_more(_model())
    assert trains_more(_model(modules_to_save=["norm"]))
    assert trains_more(_model(trainable_token_indices=[3]))


def test_the_summary_is_one_line_that_counts_zeros() -> None:
    norms = {"a": 1.0, "b": 3.0, "c": 2.0}
    assert summarise(norms) == "adapter norms ‖ΔW‖ of 3 layers: min 1, median 2, max 3"
    assert summarise({**norms, "d": 0.0}).endswith("; 1 are zero (such as d)")
