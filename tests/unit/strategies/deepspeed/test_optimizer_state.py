from typing import Any

import pytest
import torch
from torch import nn

from xft.optim import adamw
from xft.strategies.deepspeed.optimizer_state import (
    ZeroOptimizerState,
    ZeroParameter,
    _LocalShard,
    shard_problem,
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


@pytest.mark.parametrize("create", [adamw, torch.optim.SGD])
def test_shard_problem_of_an_optimizer_that_works_element_by_element_is_empty(create: Any) -> None:
    assert shard_problem(create) == ""


def test_shard_problem_of_quantized_state_names_the_optimizer() -> None:
    from bitsandbytes.optim import AdamW8bit

    assert "AdamW8bit" in shard_problem(AdamW8bit)


class RowNormalized(torch.optim.SGD):
    """Steps each row of a matrix in the direction of its gradient, with the same length."""

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = param.grad / param.grad.norm(dim=-1, keepdim=True)
        super().step()


def test_shard_problem_of_an_optimizer_of_full_rows_is_that_zero_cuts_rows() -> None:
    assert "element by element" in shard_problem(RowNormalized)
