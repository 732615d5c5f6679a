"""Reading weights by rows, on a gloo group of this process only; tests of two ranks are in ``tests/e2e``."""

import gc
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_config
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, PreTrainedModel, core_model_loading, modeling_utils
from transformers.core_model_loading import Chunk, Concatenate, MergeModulelist, Transpose, WeightConverter

from xft.models.sharded_reading import (
    _names_read_in_full,
    full_copy,
    full_weights_of,
    gather_modules,
    reading_ranks,
    shard_meta_parameters,
    shard_rows,
    sharded_reading,
)

pytestmark = pytest.mark.usefixtures("process_group")


def _mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (1,))


def _settings() -> tuple[object, object, str | None]:
    """What reading by rows replaces in this process."""
    return (
        PreTrainedModel._load_pretrained_model,
        core_model_loading.set_param_for_module,
        os.environ.get("HF_DEACTIVATE_ASYNC_LOAD"),
    )


def _is_mapped(folder: Path) -> bool:
    """Return whether pages of the weights' file belong to the memory of this process."""
    gc.collect()
    maps = Path("/proc/self/maps")
    return maps.exists() and str(folder / "model.safetensors") in maps.read_text(encoding="utf-8")


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    model = AutoModelForCausalLM.from_config(tiny_config("llama", 50))
    model.save_pretrained(tmp_path / "model")
    return model


def test_parameters_are_read_as_rows_with_the_values_of_the_file(saved: Any, tmp_path: Path) -> None:
    before = _settings()
    with sharded_reading(_mesh):
        model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(info.values())
    for (name, param), expected in zip(model.named_parameters(), saved.parameters(), strict=True):
        assert isinstance(param, DTensor), name
        assert torch.equal(param.full_tensor(), expected), name
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert _settings() == before


def test_an_error_while_reading_restores_the_loader(tmp_path: Path) -> None:
    before = _settings()
    with pytest.raises(OSError, match="absent"), sharded_reading(_mesh):
        AutoModelForCausalLM.from_pretrained(str(tmp_path / "absent"))
    assert _settings() == before


class _Quantizer:
    """Quantizes every matrix while it is read."""

    pre_quantized = False

    def param_needs_quantization(self, model: nn.Module, name: str) -> bool:
        return model.get_parameter(name).ndim == 2


def _read_in_full(
    shapes: dict[str, tuple[int, ...]],
    converters: tuple[WeightConverter, ...] = (),
    ranks: int = 2,
    quantizer: _Quantizer | None = None,
) -> set[str]:
    model: Any = nn.Module()
    for name, shape in shapes.items():
        model.register_parameter(name, nn.Parameter(torch.empty(shape, device="meta")))
    config = SimpleNamespace(weight_mapping=[*converters], hf_quantizer=quantizer)
    return _names_read_in_full(model, config, ranks)


def test_names_read_in_full_are_those_of_other_converters_than_stacked_experts() -> None:
    stacked = WeightConverter(["gate.*", "up.*"], "gate_up", [MergeModulelist(dim=0), Concatenate(dim=1)])
    split = WeightConverter("qkv", ["q", "k", "v"], [Chunk(dim=0)])
    joined = WeightConverter(["c", "d"], "cd", [Concatenate(dim=0)])
    inner = WeightConverter("down.*", "down", [MergeModulelist(dim=1)])
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
        ["gate_up", "q", "k", "v", "cd", "o", "down"], (4, 2, 2)
    )
    assert _read_in_full(shapes) == set()
    assert _read_in_full(shapes, (stacked,)) == set()
    assert _read_in_full(shapes, (stacked, split, joined, inner)) == {"q", "k", "v", "cd", "down"}


@pytest.mark.parametrize(("ranks", "expected"), [(2, set()), (3, set()), (4, {"w"}), (6, {"w"})])
def test_stacked_experts_of_which_a_rank_would_get_none_are_read_in_full(
    ranks: int, expected: set[str]
) -> None:
    stacked = WeightConverter("expert.*", "w", [MergeModulelist(dim=0)])
    assert _read_in_full({"w": (5, 2, 2), "x": (5, 2)}, (stacked,), ranks) == expected


@pytest.mark.parametrize(
    ("shape", "ranks", "expected"),
    [
        ((4, 64), 2, set()),
        ((4, 32), 2, set()),
        ((4, 48), 2, {"w"}),  # half of it is one block and a half
        ((5, 64), 2, {"w"}),
        ((6, 64), 3, set()),
    ],
)
def test_quantized_rows_are_read_alone_if_they_are_whole_blocks(
    shape: tuple[int, ...], ranks: int, expected: set[str]
) -> None:
    assert _read_in_full({"w": shape, "bias": (5,)}, (), ranks, _Quantizer()) == expected


def test_converted_weights_are_read_one_at_a_time_and_cut(
    saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, modes = _settings(), []
    convert = WeightConverter.convert

    def watch(*args: Any, **kwargs: Any) -> Any:
        modes.append(_settings()[2])
        return convert(*args, **kwargs)

    monkeypatch.setattr(WeightConverter, "convert", watch)
    transposed = [WeightConverter("o_proj.weight", "o_proj.weight", [Transpose(dim0=0, dim1=1)])]
    monkeypatch.setattr(modeling_utils, "get_model_conversion_mapping", lambda *_, **__: transposed)
    with sharded_reading(_mesh):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for name, param in model.named_parameters():
        expected = saved.get_parameter(name)
        assert isinstance(param, DTensor), name
        assert param.requires_grad
        assert torch.equal(param.full_tensor(), expected.T if "o_proj" in name else expected), name
    assert modes == ["1", "1"]
    assert _settings() == before
    assert not _is_mapped(tmp_path / "model")


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
    rows = layer.weight
    with full_weights_of(layer):
        assert not isinstance(layer.weight, DTensor)
        assert torch.equal(layer.weight, torch.ones(3, 2))
    assert layer.weight is rows
    other = nn.Linear(2, 3, bias=False)
    other.weight = layer.weight
    gather_modules(nn.ModuleList([layer, other]), [other])
    assert not isinstance(layer.weight, DTensor)
    assert other.weight is layer.weight
    assert full_copy(layer) is layer


def test_rows_and_copies_of_quantized_weights_keep_their_states() -> None:
    from bitsandbytes.nn import Params4bit

    layer = nn.Linear(64, 4, bias=False)
    packed = Params4bit(layer.weight.data).to("cpu")
    layer.weight = shard_rows(packed, _mesh())
    copied = full_copy(layer)
    for weight in (layer.weight, copied.weight):
        assert weight.quant_state is packed.quant_state
        assert weight.quant_type == packed.quant_type
        assert not weight.requires_grad
    assert isinstance(layer.weight, DTensor)
    assert torch.equal(copied.get_parameter("weight"), packed.data)


def test_reading_ranks_are_those_of_the_mesh() -> None:
    layer = nn.Linear(2, 3)
    assert reading_ranks(layer) == (0, 1)
    layer.weight = shard_rows(layer.weight, _mesh())
    assert reading_ranks(layer) == (0, 1)
    assert layer.weight.requires_grad
