"""Weights are copied, written and loaded as transformers and peft do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_config
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import distributed, nn
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from xft.checkpoint.manifest import write_manifest
from xft.checkpoint.model_weights import (
    estimate_checkpoint_bytes,
    gather_cpu_state_dict,
    load_model_weights,
    make_weights_writer,
    placeholder_weights,
)
from xft.checkpoint.snapshot import write_static_files
from xft.errors import CheckpointError
from xft.models import TrainingModel
from xft.objectives import next_token
from xft.optim import adamw, build_optimizer
from xft.strategies import FSDP2Config, Strategy

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
def test_make_weights_writer_files_equal_those_of_save_pretrained(tmp_path: Path, tied: bool) -> None:
    for name, model in (
        ("adapter", get_peft_model(llama(), LORA)),
        ("whole", llama(tie_word_embeddings=tied)),
    ):
        expected = _save_pretrained(model, tmp_path / name)
        weights, writer = gather_cpu_state_dict(model), make_weights_writer(model)
        with torch.no_grad():
            for each in model.parameters():
                each.add_(1)  # training goes on before the thread writes
        folder = tmp_path / f"{name}-copied"
        folder.mkdir()
        writer(weights, folder)
        assert {each.name: each.read_bytes() for each in folder.glob("*.safetensors")} == expected


def test_placeholder_weights_other_files_equal_those_of_save_pretrained(tmp_path: Path) -> None:
    for name, model in (("adapter", get_peft_model(llama(), LORA)), ("whole", llama())):
        model.save_pretrained(tmp_path / name)
        model.save_pretrained(tmp_path / f"{name}-small", state_dict=placeholder_weights(model))
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


def _sharded_by_fsdp2(model: nn.Module, folder: Path) -> Strategy:
    """Shard a model on a group of this process only."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
    strategy = FSDP2Config(device="cpu").build(str(folder), 0)
    optimizer = build_optimizer(adamw, model)
    strategy.prepare(
        TrainingModel(model, next_token),
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer),
    )
    return strategy


MODELS: dict[str, Callable[[], Any]] = {
    "adapter": lambda: get_peft_model(llama(), LORA),
    "full": llama,
    "mixture": _mixture,
}


@pytest.mark.parametrize("kind", MODELS)
def test_weights_sharded_by_fsdp2_are_copied_full_and_loaded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mixture of experts is saved under other names, and read by rows."""
    model = MODELS[kind]()
    expected = {name: tensor.clone() for name, tensor in gather_cpu_state_dict(model).items()}
    strategy = _sharded_by_fsdp2(model, tmp_path)
    read, load_full_param = [], strategy.load_full_param

    def watch(parameter: nn.Parameter, value: torch.Tensor) -> None:
        read.append(isinstance(value, DTensor))
        load_full_param(parameter, value)

    monkeypatch.setattr(strategy, "load_full_param", watch)
    for change in (0, 1):
        changed = {name: tensor + change for name, tensor in expected.items()}
        folder = tmp_path / str(change)
        folder.mkdir()
        make_weights_writer(model)(changed, folder)
        write_static_files({"config.json": model.config.to_json_string().encode()}, folder)
        write_manifest(folder, {})
        load_model_weights(model, folder, strategy)
        copied = gather_cpu_state_dict(model, {}, strategy.summon_full_params)
        assert copied.keys() == changed.keys()
        assert all(torch.equal(copied[name], tensor) for name, tensor in changed.items())
    # What is saved as it is, is read one tensor at a time.
    assert read.count(True) == (2 * len(expected) if kind == "mixture" else 0)
    strategy.close()


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize(
    ("adapted", "name"), [(True, "layers.0.self_attn.q_proj.lora_A.weight"), (False, "model.norm.weight")]
)
def test_load_model_weights_of_another_shape_or_without_a_name_raises(
    adapted: bool, name: str, sharded: bool, tmp_path: Path
) -> None:
    """The saved weight has one row, which a copy would broadcast."""
    model = get_peft_model(llama(), LORA) if adapted else llama()
    weights = dict(gather_cpu_state_dict(model))
    strategy = _sharded_by_fsdp2(model, tmp_path) if sharded else None
    (full_name,) = [key for key in weights if key.endswith(name)]
    file = tmp_path / ("adapter_model.safetensors" if adapted else "model.safetensors")
    for saved, error in (
        ({**weights, full_name: weights[full_name][:1].clone()}, RuntimeError),
        ({key: value for key, value in weights.items() if key != full_name}, CheckpointError),
    ):
        save_file({key: value.clone() for key, value in saved.items()}, file)
        model.config.save_pretrained(tmp_path)
        write_manifest(tmp_path, {})
        with pytest.raises(error):
            load_model_weights(model, tmp_path, strategy)
    if strategy is not None:
        strategy.close()
