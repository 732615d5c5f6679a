"""LoRA on fused experts: any peft and transformers compute what was trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mixtures import mixture, train_adapter
from helpers.models import logits_of
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

from xft.models import LoRA
from xft.models.adapters.merging import merge
from xft.models.adapters.saved_adapter import load_adapter


@pytest.mark.parametrize("targets", ["all-linear", "all"])
@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "deepseek_v3", "qwen3_next"])
def test_saved_adapter_loads_in_plain_peft_and_merges_into_a_plain_model(
    tmp_path: Path, family: str, targets: str
) -> None:
    """peft would read the names of shared experts of the last two families as fused experts."""
    base = logits_of(mixture(family))
    adapted = LoRA(r=4, target_modules=targets, lora_dropout=0.1).apply(mixture(family), [])
    assert torch.equal(logits_of(adapted.eval()), base)
    expected = logits_of(train_adapter(adapted))
    assert (expected - base).abs().max() > 0.1 * base.abs().max()
    adapted.save_pretrained(str(tmp_path / "adapter"))
    assert torch.equal(logits_of(load_adapter(mixture(family), tmp_path / "adapter").eval()), expected)
    plain = PeftModel.from_pretrained(mixture(family), str(tmp_path / "adapter")).eval()
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4 * float(expected.abs().max())}
    torch.testing.assert_close(logits_of(plain), expected, **close)
    merge(load_adapter(mixture(family), tmp_path / "adapter")).save_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits_of(merged), expected, **close)


def test_dropout_acts_on_layers_and_not_on_experts(tmp_path: Path) -> None:
    model = LoRA(r=2, target_modules="all", lora_dropout=0.5).apply(mixture("mixtral"), [])
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    dropouts = {name: layer.lora_dropout["default"] for name, layer in layers.items()}
    assert all(
        isinstance(dropout, torch.nn.Identity) == (".experts" in name) for name, dropout in dropouts.items()
    )
    model.save_pretrained(str(tmp_path))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_dropout"] == 0


def test_gradients_of_experts_are_those_of_plain_peft() -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj"], target_parameters=["gate_up_proj", "down_proj"])
    ours = LoRA(r=4, lora_alpha=8, target_modules=["q_proj", "gate_up_proj", "down_proj"]).apply(
        mixture("olmoe"), []
    )
    plain = get_peft_model(mixture("olmoe"), config)
    ids = torch.arange(5, 25)[None]
    losses = [train_adapter(model)(input_ids=ids, labels=ids).loss for model in (ours, plain)]
    assert losses[0] == losses[1]
    for loss in losses:
        loss.backward()
    grads = [
        {name: param.grad for name, param in model.named_parameters() if param.requires_grad}
        for model in (ours, plain)
    ]
    assert grads[0].keys() == grads[1].keys()
    assert len(grads[0]) == 2 * (2 + 4)
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], msg=name)
