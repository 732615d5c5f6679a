"""Settings of a strategy, known before its process group and its model exist."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from xft.distributed.devices import has_native_bf16, resolve_device
from xft.registry import register
from xft.strategies.base import Strategy
from xft.strategies.single_device import SingleDevice

MixedPrecision = Literal["auto", "bf16"]


@dataclass(frozen=True)
class StrategyConfig(ABC):
    """Section ``strategy`` of a config. Subclasses register as strategy types.

    Args:
        device: ``auto``, or a torch device name.
        mixed_precision: autocast dtype; ``auto`` is bf16 on hardware with native bf16 arithmetic, and ``None`` elsewhere;
            ``None`` computes in the dtype of the weights.

    Attributes:
        is_distributed: whether the strategy needs a process group.
        timeout_minutes: minutes that a collective waits for the other ranks.
        sequence_parallel_size: neighboring ranks that share each batch along the sequence.
    """

    is_distributed: ClassVar[bool] = False

    device: str = "auto"
    mixed_precision: MixedPrecision | None = None

    @property
    def timeout_minutes(self) -> float:
        """0, because a single process waits for no other."""
        return 0.0

    @property
    def sequence_parallel_size(self) -> int:
        """1, because a single process shares no batch."""
        return 1

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """Dtype of ``mixed_precision``, on the device of this process."""
        if self.mixed_precision == "auto" and not has_native_bf16(resolve_device(self.device)):
            return None
        return None if self.mixed_precision is None else torch.bfloat16

    def validate(self, optimizer: Callable[..., torch.optim.Optimizer]) -> None:  # noqa: B027
        """Check settings and optimizer before anything slow starts.

        Args:
            optimizer: optimizer class or function, with everything except the parameters bound.

        Raises:
            ConfigError: the strategy cannot be built, or cannot train with this optimizer.
        """

    def check_model(self, model: nn.Module, sees_images: bool) -> None:  # noqa: B027
        """Check that the strategy can train a loaded model.

        Args:
            model: model with its adapter.
            sees_images: whether it is a vision-language model.

        Raises:
            ConfigError: it cannot.
        """

    def model_init_context(
        self, dtype: torch.dtype, is_quantized: bool, needs_full_weights: bool = False
    ) -> AbstractContextManager[None]:
        """Return a context for loading the model, in which a sharding strategy shards parameters as they are read.

        Args:
            dtype: dtype of the weights.
            is_quantized: whether the weights are quantized while they are loaded.
            needs_full_weights: whether loading needs all weights of the model on every rank, which rules out reading
                only the rows of this rank.
        """
        return nullcontext()

    @abstractmethod
    def build(self, work_dir: str, seed: int) -> Strategy:
        """Build the strategy of a run. The process group exists already."""


@register("strategy", "single_device")
@dataclass(frozen=True)
class SingleDeviceConfig(StrategyConfig):
    """One process on one device; a launcher turns it into ``ddp``."""

    def build(self, work_dir: str, seed: int) -> SingleDevice:
        """Build the strategy of a run."""
        return SingleDevice(work_dir, seed, self.device, self.autocast_dtype)
