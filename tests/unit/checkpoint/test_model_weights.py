"""Weights are copied, written and loaded as transformers and peft do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_config
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from xft.checkpoint.manifest import write_manifest
from xft.checkpoint.model_weights import (
    estimate_checkpoint_bytes,
    gather_cpu_state_dict,
    load_model_weights,
    shape_placeholders,
    weights_writer,
)
from xft.errors import CheckpointError

LORA = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")


def llama(**options: Any) -> Any:
    torch.manual_seed(0)
    config = tiny_config("llama", 50)
    for name, value in options.items():
        setattr(config, name, value)
    return AutoModelForCausalLM.from_config(config)


def _save_pretrained(model: Any, folder: Path) -> dict[str, bytes]:
    model.save_pretrained(folder)
    return {each.name: each.read_bytes() for each in folder.glob("*.safetensors")}


@pytest.mark.parametrize("tied", [True, False])
def test_weights_writer_files_equal_those_of_save_pretrained(tmp_path: Path, tied: bool) -> None:
    for name, model in (
        ("adapter", get_peft_model(llama(), LORA)),
        ("whole", llama(tie_word_embeddings=tied)),
    ):
        expected = _save_pretrained(model, tmp_path / name)
        weights, writer = gather_cpu_state_dict(model), weights_writer(model)
        with torch.no_grad():
            for each in model.parameters():
                each.add_(1)  # training goes on before the thread writes
        folder = tmp_path / f"{name}-copied"
        folder.mkdir()
        writer(weights, folder)
        assert {each.name: each.read_bytes() for each in folder.glob("*.safetensors")} == expected


def test_shape_placeholders_other_files_equal_those_of_save_pretrained(tmp_path: Path) -> None:
    for name, model in (("adapter", get_peft_model(llama(), LORA)), ("whole", llama())):
        model.save_pretrained(tmp_path / name)
        model.save_pretrained(tmp_path / f"{name}-small", state_dict=shape_placeholders(model))
        for each in (tmp_path / name).iterdir():
            if each.suffix != ".safetensors":
                assert (tmp_path / f"{name}-small" / each.name).read_bytes() == each.read_bytes()


def test_estimate_checkpoint_bytes_is_within_two_percent() -> None:
    for model in (get_peft_model(llama(), LORA), llama()):
        trained = [each for each in model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(trained)
        for each in trained:
            each.grad = torch.zeros_like(each)
        optimizer.step()
        moments = sum(value.nbytes for state in optimizer.state.values() for value in state.values())
        weights = sum(
            {each.data_ptr(): each.nbytes for each in gather_cpu_state_dict(model).values()}.values()
        )
        assert estimate_checkpoint_bytes(model, optimizer=True) == pytest.approx(
            weights + moments, rel=0.02
        )
        assert estimate_checkpoint_bytes(model, optimizer=False) == weights


@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_load_model_weights_full_model_saved_under_other_names(tmp_path: Path, family: str) -> None:
    """A mixture of experts is one tensor in memory, and one for each expert in the file."""
    model = llama() if family == "llama" else _mixture()
    expected = {name: each.clone() for name, each in model.state_dict().items()}
    model.save_pretrained(tmp_path)
    write_manifest(tmp_path)
    with torch.no_grad():
        for each in model.parameters():
            each.zero_()
    load_model_weights(model, tmp_path)
    assert all(torch.equal(each, expected[name]) for name, each in model.state_dict().items())


def _mixture() -> nn.Module:
    from transformers import Qwen3MoeConfig

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "moe_intermediate_size": 8}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    experts: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2}
    model: nn.Module = AutoModelForCausalLM.from_config(
        Qwen3MoeConfig(vocab_size=50, **sizes, **heads, **experts)
    )
    return model


def test_load_model_weights_of_another_model_raises(tmp_path: Path) -> None:
    get_peft_model(llama(), LORA).save_pretrained(tmp_path)
    other = get_peft_model(llama(), LoraConfig(r=2, target_modules=["k_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(CheckpointError) as error:
        load_model_weights(other, tmp_path)
    assert error.value.key == str(tmp_path)


def test_load_model_weights_adapter_instead_of_full_model_raises(tmp_path: Path) -> None:
    get_peft_model(llama(), LORA).save_pretrained(tmp_path)
    write_manifest(tmp_path)
    with pytest.raises(CheckpointError) as error:
        load_model_weights(llama(), tmp_path)
    assert (error.value.key, error.value.expected) == (str(tmp_path), "model*.safetensors")
