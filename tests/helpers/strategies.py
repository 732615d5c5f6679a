"""Strategies without processes for tests of other rooms."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from helpers.tiny import tiny_config
from xft.models import TrainingModel
from xft.objectives import next_token
from xft.strategies import SingleDevice, SingleDeviceConfig, Strategy

T = TypeVar("T")


class FakeStrategy(Strategy):
    """One rank on the CPU, whose peers contribute fixed values to ``gather``.

    Args:
        peers: values of the other ranks, appended after this rank's value.
        world_size: number of ranks that the strategy reports.
        data_rank: data-parallel rank that it reports.
        data_world_size: number of data-parallel ranks that it reports.
        params_are_sharded: whether it reports sharded parameters.
        lr: base learning rate of its scheduler.
    """

    def __init__(
        self,
        *peers: Any,
        world_size: int = 1,
        data_rank: int = 0,
        data_world_size: int = 1,
        params_are_sharded: bool = False,
        lr: float = 1.0,
    ) -> None:
        self.peers = list(peers)
        self.world_size, self.data_rank, self.data_world_size = world_size, data_rank, data_world_size
        self.params_are_sharded = params_are_sharded
        self.device = torch.device("cpu")
        self._autocast_dtype = None
        self.optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda _: 1.0)

    def step(self, max_grad_norm: float | None) -> float:
        """Step optimizer and scheduler, and return a gradient norm."""
        self.optimizer.step()
        self.lr_scheduler.step()
        return 1.0

    def reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Return the values: the peers contribute nothing."""
        return list(values)

    def gather(self, value: T) -> list[T]:
        """Return this rank's value, followed by those of its peers."""
        return [value, *self.peers]

    def barrier(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def tiny_strategy(
    folder: Path, seed: int = 0, factor: Callable[[int], float] = lambda step: 1 / (1 + step)
) -> SingleDevice:
    """Return a prepared strategy on the CPU with a tiny model of random weights, and AdamW with the rate 0.01.

    Args:
        folder: run folder.
        seed: seed of the weights.
        factor: schedule: step to factor of the rate.
    """
    strategy = SingleDeviceConfig(device="cpu").build(str(folder), seed)
    model = TrainingModel(AutoModelForCausalLM.from_config(tiny_config("llama", 50)), next_token)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    strategy.prepare(
        model, optimizer=optimizer, lr_scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    )
    return strategy


def train_steps(strategy: SingleDevice, steps: int) -> list[Tensor]:
    """Take steps with random gradients; return copies of the parameters."""
    params = list(strategy.model.parameters())
    for _ in range(steps):
        for param in params:
            param.grad = torch.randn_like(param)
        strategy.optimizer.step()
        strategy.lr_scheduler.step()
    return [param.detach().clone() for param in params]
