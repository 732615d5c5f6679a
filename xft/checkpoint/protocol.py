"""The members of a strategy that checkpoints depend on."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Strategy(Protocol):
    """A strategy as the checkpoint code sees it; see ``xft.strategies`` for the implementations.

    Attributes:
        model: the wrapped training model.
        optimizer: optimizer of the trainable parameters.
        lr_scheduler: learning-rate scheduler.
        device: device of this rank.
        rank: rank of this process.
        world_size: number of ranks.
        timeout_minutes: how long a rank waits for another.
        params_are_sharded: whether parameters are sharded, which makes reading them a collective operation.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler
    device: torch.device
    timeout_minutes: float
    params_are_sharded: bool

    @property
    def rank(self) -> int:
        """Rank of this process."""

    @property
    def world_size(self) -> int:
        """Number of ranks."""

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks in rank order. Collective."""

    def barrier(self) -> None:
        """Wait for all ranks. Collective."""

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimizer state keyed by parameter name."""

    def load_optimizer_state(self, tree: Mapping[str, Any], /) -> None:
        """Load a state that ``optimizer_state`` of any strategy and world size returned."""

    def summon_full_params(
        self, parameters: Iterable[nn.Parameter], write: bool = False
    ) -> AbstractContextManager[None]:
        """Return a context in which the parameters are unsharded on every rank. Collective."""

    def load_full_param(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Overwrite a possibly sharded parameter with a full value that all ranks have."""

    def sync_master_weights(self) -> None:
        """Update copies of the parameters after they were overwritten."""
