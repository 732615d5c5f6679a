"""A strategy without processes, with the interface that tests of other rooms need."""

from typing import Any, TypeVar

import torch
from torch import nn

from xft.strategies import SingleDevice

T = TypeVar("T")


class FakeStrategy(SingleDevice):
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

    def gather(self, value: T) -> list[T]:
        """Return this rank's value, followed by those of its peers."""
        return [value, *self.peers]
