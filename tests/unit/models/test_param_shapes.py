import torch
from bitsandbytes.nn import Params4bit
from torch import nn

from xft.models.param_shapes import (
    full_nbytes,
    full_shape,
    is_sharded,
    local_shard,
    num_params,
    quant_state,
)


class _Zero3Parameter(nn.Parameter):
    """A parameter as ZeRO-3 leaves it between uses: empty, with attributes of DeepSpeed."""

    ds_id = 0
    ds_shape = torch.Size([3, 5])
    ds_tensor = torch.zeros(8)


def test_sizes_of_ordinary_parameter_are_its_own() -> None:
    weight = nn.Parameter(torch.zeros(3, 5, dtype=torch.bfloat16))
    assert (full_shape(weight), num_params(weight), full_nbytes(weight)) == ((3, 5), 15, 30)
    assert not is_sharded(weight)
    assert local_shard(weight) is weight
    assert quant_state(weight) is None


def test_sizes_of_sharded_parameter_are_those_of_the_full_one() -> None:
    weight = _Zero3Parameter(torch.empty(0))
    assert (full_shape(weight), num_params(weight), full_nbytes(weight)) == ((3, 5), 15, 60)
    assert is_sharded(weight)
    assert local_shard(weight).numel() == 8


def test_num_params_of_4bit_weight_counts_unpacked_elements() -> None:
    weight = Params4bit(torch.randn(64, 32), requires_grad=False, quant_type="nf4").to("cpu")
    assert weight.numel() == 64 * 32 // 2
    assert num_params(weight) == 64 * 32
    assert quant_state(weight).shape == (64, 32)
