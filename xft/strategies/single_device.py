"""One process, one device: what every strategy stands on."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from xft.checkpoint.sharded import materialize
from xft.compat.mmengine import StrategyBase
from xft.distributed.devices import resolve_device, seed_everything
from xft.errors import TrainingError
from xft.optim import to_eval_mode, to_train_mode
from xft.registry import register
from xft.strategies.batching import Batching
from xft.strategies.strategy_config import StrategyConfig, autocast
from xft.types import Batch, LossOutput, SequenceParallelGroup


class SingleDevice(StrategyBase):
    """One process on one device, and the interface of all strategies.

    Args:
        work_dir: run folder.
        seed: seed of the run.
        config: device and precision.

    Attributes:
        device: device of this rank.
        optimizer: optimizer of the trainable parameters.
        lr_scheduler: learning-rate scheduler.
        rank: rank of this process.
        world_size: number of ranks.
        data_rank: data-parallel rank: index of this rank's share of the data.
        data_world_size: number of data-parallel ranks; less than ``world_size`` under sequence parallelism.
        sequence: ranks that share each batch along the sequence; ``None`` without sequence parallelism.
        timeout_minutes: minutes that a collective waits for the other ranks.
        together: whether parameters are sharded, which makes every forward pass a collective operation.
    """

    rank = 0
    world_size = 1
    data_rank = 0
    data_world_size = 1
    sequence: SequenceParallelGroup | None = None
    timeout_minutes = 0.0
    together = False

    def __init__(self, work_dir: str, seed: int, config: StrategyConfig) -> None:
        self.device = resolve_device(config.device)
        self._autocast_dtype = config.autocast_dtype
        self.optimizer: torch.optim.Optimizer
        self.lr_scheduler: torch.optim.lr_scheduler.LRScheduler
        super().__init__(work_dir=work_dir, env_kwargs={"seed": seed})
        seed_everything(seed, self.rank)

    def prepare(
        self,
        model: nn.Module,
        *,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        batching: Batching | None = None,
    ) -> None:
        """Attach model and optimizer, and wrap the model for gradient reduction.

        Args:
            model: training model, with its objective.
            optimizer: optimizer of the trainable parameters.
            lr_scheduler: scheduler of the optimizer.
            batching: shape of an optimizer step; only DeepSpeed needs it.
        """
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        names = {id(each): name for name, each in model.named_parameters()}
        self._groups = [[names[id(each)] for each in group["params"]] for group in optimizer.param_groups]
        self.model = self._wrap(model)
        self.model.train()
        self._prepared = True

    def _wrap(self, model: nn.Module) -> nn.Module:
        return model

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Enter torch's autocast if ``mixed_precision`` is set."""
        with autocast(self.device, self._autocast_dtype):
            yield

    def place(self, batch: Batch) -> Batch:
        """A batch on this rank's device, to be computed together with the ranks of its group."""
        return replace(batch.to(self.device), sequence=self.sequence)

    def forward_backward(self, batch: Any, scale: float, last: bool) -> LossOutput:
        """One micro-batch.

        Args:
            batch: on any device.
            scale: what the summed loss is multiplied by before the gradient is taken.
            last: whether the optimizer steps after it.
        """
        to_train_mode(self.optimizer)
        with self._meet(last):
            with self.autocast():
                output: LossOutput = self.model(self.place(batch))
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
        norm = float(nn.utils.clip_grad_norm_(trained, clip if clip is not None else float("inf")))
        if not math.isfinite(norm):
            raise TrainingError(
                f"the norm of the gradient is {norm}, and the weights were left as they are"
            )
        self.optimizer.step()
        to_eval_mode(self.optimizer)
        self.lr_scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def discard(self) -> None:
        """Forget the gradients of this window."""
        self.optimizer.zero_grad(set_to_none=True)
        to_eval_mode(self.optimizer)

    def describe(self) -> list[str]:
        """Lines for the terminal about what is not plain."""
        return []

    def gathered(
        self, parameters: Iterable[nn.Parameter], write: bool = False
    ) -> AbstractContextManager[None]:
        """Under ``with``, these weights are whole on every rank. All ranks must enter it.

        Args:
            parameters: which.
            write: whether what the first rank writes into them is kept.
        """
        return nullcontext()

    def put(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Write over a weight, of which all ranks have the new value."""
        parameter.data.copy_(value)

    def sample(self, parameter: nn.Parameter) -> Tensor:
        """Numbers of a weight that this rank has, always the same ones of it."""
        return parameter

    def after_loading(self) -> None:
        """To be called when weights were written over."""

    def optimizer_state(self) -> dict[str, Any]:
        """The state of the optimizer by names of weights, the same for every strategy.

        Returns:
            ``groups``, each with what its weights are stepped with and their ``names``; and ``state``,
            for each name what the optimizer keeps of that weight, in the shape of the whole weight, or
            this rank's share of it (:class:`~xft.checkpoint.sharded.TensorShard`).
        """
        names = [name for group in self._groups for name in group]
        state = self.optimizer.state_dict()["state"]
        return {"groups": self._hyper(), "state": {names[number]: each for number, each in state.items()}}

    def load_optimizer_state(self, tree: Mapping[str, Any]) -> None:
        """Put back what ``optimizer_state`` gave, of any strategy on any number of ranks.

        Raises:
            ValueError: it is of other weights.
        """
        self._set_hyper(tree["groups"])
        numbers = {name: at for at, name in enumerate(name for group in self._groups for name in group)}
        own = self.optimizer.state_dict()
        own["state"] = {
            numbers[name]: {key: materialize(value) for key, value in each.items() if key != "master"}
            for name, each in tree["state"].items()
        }
        self.optimizer.load_state_dict(own)

    def _hyper(self) -> list[dict[str, Any]]:
        groups = zip(self.optimizer.param_groups, self._groups, strict=True)
        return [
            {**{key: value for key, value in group.items() if key != "params"}, "names": names}
            for group, names in groups
        ]

    def _set_hyper(self, saved: Sequence[Mapping[str, Any]]) -> None:
        if [each["names"] for each in saved] != self._groups:
            raise ValueError("the state of the optimizer is of other weights than are trained now")
        for group, each in zip(self.optimizer.param_groups, saved, strict=True):
            group.update({key: value for key, value in each.items() if key != "names"})

    def reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Add numbers up over all ranks."""
        return list(values)

    def reduce_data_sum(self, values: Sequence[float]) -> list[float]:
        """Add up what is known of the data. Ranks that compute a batch together count once."""
        first = self.sequence is None or self.sequence.rank == 0
        return self.reduce_sum([each if first else 0.0 for each in values])

    def barrier(self) -> None:
        """Wait for all ranks."""

    def close(self) -> None:
        """Part from the other ranks."""

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order. All ranks must call it."""
        return [value]


@register("strategy", "single_device")
@dataclass(frozen=True)
class SingleDeviceConfig(StrategyConfig):
    """One process on one device; a launcher turns it into ``ddp``.

    Args:
        device: ``auto``, or a torch device name.
        mixed_precision: autocast dtype; ``None`` computes in the dtype of the weights.
    """

    def build(self, work_dir: str, seed: int) -> SingleDevice:
        """Build the strategy of a run."""
        return SingleDevice(work_dir, seed, self)
