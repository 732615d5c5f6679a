"""Strategies: where the model lives, how gradients meet, how state is kept.

They stand on MMEngine's ``BaseStrategy``, whose runner drives them. Its own strategies are not
used: they choose a CUDA device even where there is none, average what should be summed, and
read checkpoints with a pickle loader.
"""

import logging
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from mmengine._strategy import BaseStrategy
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from xft.engine.checkpoint import put_back
from xft.errors import ConfigError, TrainingError
from xft.registry import register
from xft.types import LossOutput

Autocast = Literal["bfloat16"]
T = TypeVar("T")


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch on every device. Ranks differ, so that their dropout does."""
    random.seed(seed + rank)
    np.random.seed((seed + rank) % 2**32)
    torch.manual_seed(seed + rank)


def choose_device(name: str = "auto") -> torch.device:
    """The device of this process: its own GPU where there is one, else the CPU.

    Raises:
        ConfigError: a device is asked for that the machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise ConfigError(f"strategy.device: got {name!r}, but torch finds no CUDA device; use 'auto'")
        index = int(name.partition(":")[2] or os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", index)
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"strategy.device: got {name!r}, expected auto, cpu, cuda or mps") from error


@register("strategy", "single")
class SingleDevice(BaseStrategy):
    """One process, one device.

    Args:
        work_dir: the run folder.
        seed: of the run.
        device: ``auto``, or a name that torch knows.
        autocast: the type that products are taken in, where it is not that of the weights:
            fp32 weights with ``autocast='bfloat16'`` are mixed-precision training.
    """

    rank = 0
    world_size = 1

    def __init__(
        self, work_dir: str, seed: int, device: str = "auto", autocast: Autocast | None = None
    ) -> None:
        self.device = choose_device(device)
        self._autocast = getattr(torch, autocast) if autocast is not None else None
        self.optimizer: torch.optim.Optimizer
        self.schedule: torch.optim.lr_scheduler.LRScheduler
        super().__init__(work_dir=work_dir, env_kwargs={"seed": seed})
        # MMEngine keeps global objects under this name, and warns when a second run has the same.
        self._experiment_name = f"{work_dir}@{time.time_ns()}"

    def _setup_env(self, seed: int) -> None:
        self._launcher = "none"
        self._distributed = self.world_size > 1
        # MMEngine puts its logs into a folder of this name inside the run folder; ours is one file.
        self._timestamp = ""
        self._seed = seed
        self._randomness = {"seed": seed}
        seed_everything(seed, self.rank)

    def build_logger(self, **_: Any) -> logging.Logger:
        """A logger that writes to ``train.log`` only: what MMEngine's runner says of itself."""
        logger = logging.getLogger("xft.runner")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        return logger

    def prepare(
        self,
        model: nn.Module,
        *,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        """Take over what is trained, and wrap the model where ranks must meet."""
        self.optimizer, self.schedule = optimizer, schedule
        self.model = self._wrap(model)
        self.model.train()
        self._prepared = True

    def _wrap(self, model: nn.Module) -> nn.Module:
        return model

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Products in the type of ``autocast``, if one is set."""
        if self._autocast is None:
            yield
        else:
            with torch.autocast(self.device.type, dtype=self._autocast):
                yield

    def forward_backward(self, batch: Any, scale: float, last: bool) -> LossOutput:
        """One micro-batch.

        Args:
            batch: on any device.
            scale: what the summed loss is multiplied by before the gradient is taken.
            last: whether the optimizer steps after it.
        """
        with self._meet(last):
            with self.autocast():
                output: LossOutput = self.model(batch.to(self.device))
            (output.loss_sum * (scale * self.world_size)).backward()
        return output

    def _meet(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def step(self, clip: float | None) -> float:
        """Clip, change the weights, move the learning rate on.

        Returns:
            The norm of the gradient before it was clipped.

        Raises:
            TrainingError: it is not finite.
        """
        trained = [each for group in self.optimizer.param_groups for each in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, clip if clip is not None else float("inf"))
        if not torch.isfinite(norm):
            raise TrainingError(
                f"the norm of the gradient is {float(norm)}, and the weights were left as they are"
            )
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Add numbers up over all ranks."""
        return list(values)

    def barrier(self) -> None:
        """Wait for all ranks."""

    def close(self) -> None:
        """Part from the other ranks."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order. All ranks must call it."""
        return [value]

    def save_checkpoint(self, filename: str, **_: Any) -> None:
        """Not in use: a checkpoint is a snapshot of the runner, written by a thread.

        Raises:
            NotImplementedError: in any case.
        """
        raise NotImplementedError("checkpoints are written from Runner.snapshot")

    def resume(self, filename: str, **_: Any) -> dict[str, Any]:
        """Read back a checkpoint: weights, optimizer, schedule and random numbers.

        Returns:
            What the runner remembered in it.
        """
        return put_back(Path(filename), self)

    def load_checkpoint(self, filename: str, **_: Any) -> dict[str, Any]:
        """The same as ``resume``: a checkpoint of ours is always whole."""
        return self.resume(filename)


@register("strategy", "ddp")
class DDP(SingleDevice):
    """A copy of the model on every rank; gradients are added up. NCCL on GPUs, gloo on CPUs.

    Args:
        launcher: what started the ranks: ``pytorch`` (torchrun), ``slurm`` or ``mpi``.
        timeout_minutes: how long a rank waits for the others.
    """

    def __init__(
        self,
        work_dir: str,
        seed: int,
        device: str = "auto",
        autocast: Autocast | None = None,
        launcher: str = "pytorch",
        timeout_minutes: float = 30,
    ) -> None:
        start_process_group(launcher, timeout_minutes)
        self.rank = distributed.get_rank()
        self.world_size = distributed.get_world_size()
        super().__init__(work_dir, seed, device, autocast)
        self._launcher = launcher

    def _wrap(self, model: nn.Module) -> nn.Module:
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def _meet(self, last: bool) -> AbstractContextManager[Any]:
        assert isinstance(self.model, DistributedDataParallel)
        return nullcontext() if last else self.model.no_sync()

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

    def close(self) -> None:
        """Part from the other ranks."""
        distributed.destroy_process_group()


def agree_on(value: T, launcher: str, timeout_minutes: float) -> T:
    """Join the other ranks, and take the first one's value."""
    start_process_group(launcher, timeout_minutes)
    shared = [value]
    distributed.broadcast_object_list(shared, src=0)
    return shared[0]


def start_process_group(launcher: str, timeout_minutes: float = 30) -> None:
    """Join the other ranks, if that is not done yet."""
    read_launcher(launcher)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not distributed.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))


def read_launcher(launcher: str) -> tuple[int, int]:
    """Rank and number of ranks, as the launcher's environment says; torch's names for them are set.

    Raises:
        ConfigError: the environment of that launcher is not there.
    """
    if launcher == "none":
        return 0, 1
    names, start = {
        "pytorch": (("RANK", "WORLD_SIZE", "LOCAL_RANK"), "torchrun --nproc_per_node N"),
        "slurm": (("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"), "srun"),
        "mpi": (
            ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
            "mpirun -n N",
        ),
    }[launcher]
    missing = [each for each in names if each not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher}: the environment has no {', '.join(missing)}; start with `{start} ...`"
        )
    for ours, theirs in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), names, strict=True):
        os.environ[ours] = os.environ[theirs]
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def unwrap(model: nn.Module) -> nn.Module:
    """The :class:`TrainingModel` inside whatever wraps it."""
    return model.module if isinstance(model, DistributedDataParallel) else model
