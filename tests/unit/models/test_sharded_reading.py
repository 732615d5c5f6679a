"""Reading weights by rows, on a gloo group of this process only; tests of two ranks are in ``tests/e2e``."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_config
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import Chunk, Concatenate, MergeModulelist, WeightConverter

from xft.models.sharded_reading import (
    _is_stored_by_rows,
    full_copy,
    gather_parameters,
    shard_meta_parameters,
    sharded_reading,
)

pytestmark = pytest.mark.usefixtures("process_group")


def _mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (1,))


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    model = AutoModelForCausalLM.from_config(tiny_config("llama", 50))
    model.save_pretrained(tmp_path / "model")
    return model


def test_parameters_are_read_as_rows_with_the_values_of_the_file(saved: Any, tmp_path: Path) -> None:
    original = PreTrainedModel._load_pretrained_model
    with sharded_reading(_mesh):
        model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info.values())
    for (name, param), expected in zip(model.named_parameters(), saved.parameters(), strict=True):
        assert isinstance(param, DTensor), name
        assert torch.equal(param.full_tensor(), expected), name
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert PreTrainedModel._load_pretrained_model is original


def test_an_error_while_reading_restores_the_loader(tmp_path: Path) -> None:
    original = PreTrainedModel._load_pretrained_model
    with pytest.raises(OSError, match="absent"), sharded_reading(_mesh):
        AutoModelForCausalLM.from_pretrained(str(tmp_path / "absent"))
    assert PreTrainedModel._load_pretrained_model is original


def test_stacked_experts_are_stored_by_rows_and_split_weights_are_not() -> None:
    stacked = WeightConverter(["gate", "up"], "gate_up", [MergeModulelist(dim=0), Concatenate(dim=1)])
    split = WeightConverter("qkv", ["q", "k", "v"], [Chunk(dim=0)])
    joined = WeightConverter(["q", "k"], "qk", [Concatenate(dim=0)])
    assert _is_stored_by_rows([])
    assert _is_stored_by_rows([stacked])
    assert not _is_stored_by_rows([stacked, split])
    assert not _is_stored_by_rows([joined])


def test_only_parameters_without_values_are_split() -> None:
    with torch.device("meta"):
        layers = nn.ModuleList([nn.Linear(2, 3), nn.Linear(2, 3)])
    layers.append(nn.Linear(2, 3))
    layers[1].weight = layers[0].weight
    shard_meta_parameters(layers, _mesh())
    assert isinstance(layers[0].weight, DTensor)
    assert layers[1].weight is layers[0].weight
    assert not isinstance(layers[2].weight, DTensor)


def test_copies_are_full_and_the_module_is_gathered_on_demand() -> None:
    with torch.device("meta"):
        layer = nn.Linear(2, 3)
    shard_meta_parameters(layer, _mesh())
    layer.weight = nn.Parameter(DTensor.from_local(torch.ones(3, 2), layer.weight.device_mesh))
    layer.bias = None
    copied = full_copy(layer)
    assert isinstance(layer.weight, DTensor)
    assert torch.equal(copied.get_parameter("weight"), torch.ones(3, 2))
    gather_parameters(layer)
    assert not isinstance(layer.weight, DTensor)
    assert full_copy(layer) is layer
