"""Data parallelism: a replica of the model on every rank."""

import gc
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from xft.distributed import DEFAULT_TIMEOUT_MINUTES
from xft.models import unwrap
from xft.registry import register
from xft.strategies.base import Strategy
from xft.strategies.batching import Batching
from xft.strategies.strategy_config import SingleDeviceConfig, StrategyConfig
from xft.types import SequenceParallelGroup
from xft.types.ranges import Count, Minutes

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedConfig(StrategyConfig):
    """Settings that all strategies with a process group share.

    Args:
        timeout_minutes: minutes that a collective waits for the other ranks.
        sequence_parallel_size: neighboring ranks that share each batch along the sequence
            (DeepSpeed-Ulysses, https://arxiv.org/abs/2309.14509).
    """

    is_distributed: ClassVar[bool] = True

    timeout_minutes: Minutes = DEFAULT_TIMEOUT_MINUTES
    sequence_parallel_size: Count = 1


class DistributedStrategy(Strategy):
    """Base of the strategies with a process group: NCCL on GPUs, gloo on CPUs.

    Args:
        work_dir: run folder.
        seed: seed of the run.
        config: settings; the process group exists already.
    """

    def __init__(self, work_dir: str, seed: int, config: DistributedConfig) -> None:
        self.timeout_minutes = config.timeout_minutes
        self.rank = distributed.get_rank()
        self.world_size = distributed.get_world_size()
        size = config.sequence_parallel_size
        self.data_rank, sequence_rank = divmod(self.rank, size)
        self.data_world_size = self.world_size // size
        if size > 1:
            timeout = timedelta(minutes=config.timeout_minutes)
            process_group, _ = distributed.new_subgroups(size, timeout=timeout)
            self.sequence = SequenceParallelGroup(sequence_rank, size, process_group)
        super().__init__(work_dir, seed, config.device, config.autocast_dtype)

    def reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of the values over all ranks, in double precision. Collective."""
        total = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks in rank order. Collective."""
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all ranks. Collective."""
        distributed.barrier()

    def describe(self) -> list[str]:
        """Return lines about the strategy for the run summary."""
        if self.sequence is None:
            return []
        return [f"sequence  parallel over {self.sequence.size} ranks, which share each batch"]

    def close(self) -> None:
        """Leave the process group."""
        # Why: a wrapper or a group handle that outlives the process group keeps gloo's threads until the interpreter
        # exits, which sometimes aborts the process.
        self.model = unwrap(self.model)
        self.sequence = None
        gc.collect()
        distributed.destroy_process_group()


class DDP(DistributedStrategy):
    """A replica of the model on every rank; gradients are summed over all ranks."""

    def _wrap(self, model: nn.Module, batching: Batching | None) -> nn.Module:
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def _maybe_no_sync(self, last: bool) -> AbstractContextManager[None]:
        assert isinstance(self.model, DistributedDataParallel)
        return nullcontext() if last else self.model.no_sync()


@register("strategy", "ddp")
@dataclass(frozen=True)
class DDPConfig(DistributedConfig):
    """A replica of the model on every rank; gradients are summed over all ranks."""

    def build(self, work_dir: str, seed: int) -> DDP:
        """Build the strategy of a run."""
        return DDP(work_dir, seed, self)


def config_for_launcher(config: StrategyConfig, launcher: str) -> StrategyConfig:
    """Return ``config``, or DDP in place of a single device if a launcher has started this process."""
    if launcher == "none" or not isinstance(config, SingleDeviceConfig):
        return config
    return DDPConfig(config.device, config.mixed_precision)
