"""NF4 weights quantized in pieces, and by rows of several ranks: the numbers of bitsandbytes."""

from typing import Any

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor
from transformers import BitsAndBytesConfig

from xft.models import NF4, nf4_packing
from xft.models.nf4_packing import pack, pack_rows
from xft.models.sharded_reading import make_sharded


def _config(double: bool, storage: Any = "uint8") -> BitsAndBytesConfig:
    return NF4(double_quant=double, quant_storage=storage).config(torch.float32)


def _weight(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _assert_equal(param: Any, weight: Tensor, double: bool) -> None:
    expected, state = quantize_4bit(
        weight, compress_statistics=double, quant_type="nf4", quant_storage=param.dtype
    )
    assert torch.equal(param.to_local() if isinstance(param, DTensor) else param, expected)
    assert param.shape == expected.shape
    found = param.quant_state.as_dict()
    for name, value in state.as_dict().items():
        same = torch.equal(found[name], value) if isinstance(value, Tensor) else found[name] == value
        assert same, name


@pytest.fixture
def one_rank(process_group: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch keeps a mesh that equals a new one, whose group an earlier test has destroyed."""
    monkeypatch.setattr(DeviceMesh, "get_group", lambda *_: distributed.group.WORLD)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("storage", ["uint8", "bfloat16"])
@pytest.mark.parametrize("shape", [(10, 64), (5, 40), (3, 4, 96), (1, 30)])
def test_pieces_have_the_numbers_of_the_full_weight(
    double: bool, storage: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if storage == "bfloat16" and torch.Size(shape).numel() % 4:
        pytest.skip("bitsandbytes cannot store it")
    monkeypatch.setattr(nf4_packing, "PIECE", 128)
    weight = _weight(*shape)
    _assert_equal(pack(weight, _config(double, storage)), weight, double)


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("double", [True, False])
def test_rows_get_the_scales_of_all_ranks(double: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks in turn: the first has seen the scales of the second."""
    weight = _weight(4, 96)
    full: Any = make_sharded(torch.empty(4, 96, device="meta"), init_device_mesh("cpu", (1,)), weight.shape)
    _assert_equal(pack_rows(weight, full, _config(double)), weight, double)

    def gather(outputs: list[Tensor], part: Tensor, group: object) -> None:
        other = quantize_4bit(weight[2:], quant_type="nf4")[1].absmax
        for output, scales in zip(outputs, (part, other), strict=True):
            output.copy_(scales)

    monkeypatch.setattr(distributed, "all_gather", gather)
    full = make_sharded(torch.empty(2, 96, device="meta"), full.device_mesh, weight.shape)
    monkeypatch.setattr(type(full.device_mesh), "size", lambda *_: 2)
    param: Any = pack_rows(weight[:2], full, _config(double))
    expected, state = quantize_4bit(weight, compress_statistics=double, quant_type="nf4")
    assert torch.equal(param.to_local(), expected[: len(expected) // 2])
    assert param.shape == expected.shape
    assert torch.equal(param.quant_state.absmax, state.absmax)


@pytest.mark.usefixtures("one_rank")
def test_rows_of_another_shape_are_reported_with_it() -> None:
    """``check_complete`` compares the shape; every rank takes part in the collective."""
    full: Any = make_sharded(
        torch.empty(4, 96, device="meta"), init_device_mesh("cpu", (1,)), torch.Size((4, 96))
    )
    param: Any = pack_rows(_weight(4, 32), full, _config(double=False))
    assert param.quant_state.shape == (4, 32)
    assert param.quant_state.absmax.shape == (6,)
    assert param.quant_state.absmax.isnan().all()
