from typing import Any

import pytest
import torch
from torch import nn

from xft.optim import adamw
from xft.strategies.deepspeed.optimizer_state import (
    ZeroOptimizerState,
    ZeroParameter,
    _LocalShard,
    unshardable_reason,
)


class FakeEngine:
    """An engine whose optimizer no method of these tests reads."""

    optimizer: Any = None


def _sharded(numel: int, world_size: int) -> ZeroParameter:
    """A parameter as ZeRO-3 leaves it: empty, with a shard padded to the same size on every rank."""
    param = ZeroParameter(torch.empty(0))
    param.ds_shape, param.ds_numel = torch.Size([numel]), numel
    size = -(-numel // world_size)
    param.ds_tensor = torch.zeros(size).as_subclass(_LocalShard)
    param.ds_tensor.ds_numel = size
    return param


def _states(param: nn.Parameter, world_size: int) -> list[ZeroOptimizerState]:
    return [
        ZeroOptimizerState(FakeEngine(), 3, {"w": param}, rank, world_size) for rank in range(world_size)
    ]


@pytest.mark.parametrize(("numel", "world_size"), [(10, 3), (12, 3), (2, 4), (7, 1)])
def test_shards_of_all_ranks_cover_a_parameter_once(numel: int, world_size: int) -> None:
    param = _sharded(numel, world_size)
    ranges = [state._fragment_range(param) for state in _states(param, world_size)]
    assert [index for begin, end in ranges for index in range(begin, end)] == list(range(numel))


@pytest.mark.parametrize(("numel", "world_size"), [(10, 3), (12, 3), (2, 4)])
def test_load_full_param_writes_the_padded_shard_of_each_rank(numel: int, world_size: int) -> None:
    value = torch.arange(1.0, numel + 1)
    shards = []
    for rank in range(world_size):
        param = _sharded(numel, world_size)
        _states(param, world_size)[rank].load_full_param(param, value)
        shards.append(param.ds_tensor.clone())
    joined = torch.cat(shards).as_subclass(torch.Tensor)
    assert torch.equal(joined[:numel], value)
    assert not bool(joined[numel:].any())


def test_unshardable_reason_of_elementwise_optimizers_is_none() -> None:
    param = nn.Parameter(torch.ones(2, 2))
    assert unshardable_reason(adamw([param], lr=0.1)) is None
    assert unshardable_reason(torch.optim.SGD([param], lr=0.1)) is None


def test_unshardable_reason_of_blockwise_quantized_state_names_the_optimizer() -> None:
    from bitsandbytes.optim import AdamW8bit

    reason = unshardable_reason(AdamW8bit([nn.Parameter(torch.ones(2, 2))]))
    assert reason is not None
    assert "AdamW8bit" in reason
