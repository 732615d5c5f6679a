"""A copy of the model on every rank; gradients are added up."""

import gc
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from xft.distributed.launch import DEFAULT_TIMEOUT_MINUTES, start_process_group
from xft.models import unwrap
from xft.registry import register
from xft.strategies.single_device import Autocast, SingleDevice
from xft.types import SequenceParallelGroup


class Distributed(SingleDevice):
    """Several ranks that are joined in a process group: what all such strategies have in common.

    Args:
        work_dir: the run folder.
        seed: of the run.
        device: as for one device.
        autocast: as for one device.
        launcher: what started the ranks: ``none`` (this process is the only one), ``pytorch``
            (torchrun), ``slurm`` or ``mpi``.
        timeout_minutes: how long a rank waits for the others.
        sequence_parallel_size: how many neighbouring ranks compute each batch together, each a share of its
            tokens (DeepSpeed-Ulysses, https://arxiv.org/abs/2309.14509).
    """

    distributed = True

    def __init__(
        self,
        work_dir: str,
        seed: int,
        device: str = "auto",
        autocast: Autocast | None = None,
        launcher: str = "pytorch",
        timeout_minutes: float = DEFAULT_TIMEOUT_MINUTES,
        sequence_parallel_size: int = 1,
    ) -> None:
        start_process_group(launcher, timeout_minutes)
        self.timeout_minutes = timeout_minutes
        self.rank = distributed.get_rank()
        self.world_size = distributed.get_world_size()
        size = sequence_parallel_size
        self.data_rank, place = divmod(self.rank, size)
        self.data_world_size = self.world_size // size
        if size > 1:
            handle, _ = distributed.new_subgroups(size, timeout=timedelta(minutes=timeout_minutes))
            self.sequence = SequenceParallelGroup(place, size, handle)
        super().__init__(work_dir, seed, device, autocast)
        self._launcher = launcher

    def reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Add numbers up over all ranks, in double precision."""
        total = torch.tensor(list(values), dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(each) for each in total]

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order. All ranks must call it."""
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        distributed.barrier()

    def describe(self) -> list[str]:
        """Lines for the terminal about what is not plain."""
        if self.sequence is None:
            return []
        return [
            f"sequence  {self.sequence.size} ranks compute each batch together, each its share of the tokens"
        ]

    def close(self) -> None:
        """Part from the other ranks."""
        # A wrapper or a handle that outlived the group would take gloo's threads down with the interpreter, which ends
        # in an abort now and then.
        self.model = unwrap(self.model)
        self.sequence = None
        gc.collect()
        distributed.destroy_process_group()


@register("strategy", "ddp")
class DDP(Distributed):
    """A copy of the model on every rank; gradients are added up. NCCL on GPUs, gloo on CPUs."""

    def _wrap(self, model: nn.Module) -> nn.Module:
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def _meet(self, last: bool) -> AbstractContextManager[Any]:
        assert isinstance(self.model, DistributedDataParallel)
        return nullcontext() if last else self.model.no_sync()
