"""Interface of all strategies, with the steps of plain torch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from xft.compat.mmengine import StrategyBase
from xft.distributed.devices import autocast, resolve_device, seed_everything
from xft.distributed.sharded import materialize
from xft.errors import TrainingError
from xft.optim import to_eval_mode, to_train_mode
from xft.strategies.batching import Batching
from xft.types import Batch, LossOutput, SequenceParallelGroup

T = TypeVar("T")


class Strategy(StrategyBase, ABC):
    """Device placement, optimizer steps, collectives and optimizer state of a run.

    The steps are those of plain torch on one replica of the model. Subclasses define the collectives, and override
    what they wrap, reduce or shard.

    Args:
        work_dir: run folder.
        seed: seed of the run.
        device: ``auto``, or a torch device name.
        autocast_dtype: autocast dtype; ``None`` computes in the dtype of the weights.

    Attributes:
        device: device of this rank.
        model: training model, wrapped by ``prepare``.
        optimizer: optimizer of the trainable parameters.
        lr_scheduler: learning-rate scheduler.
        rank: rank of this process.
        world_size: number of ranks.
        data_rank: data-parallel rank: index of this rank's share of the data.
        data_world_size: number of data-parallel ranks; less than ``world_size`` under sequence parallelism.
        sequence: ranks that share each batch along the sequence; ``None`` without sequence parallelism.
        timeout_minutes: minutes that a collective waits for the other ranks.
        params_are_sharded: whether parameters are sharded, which makes every forward pass a collective operation.
    """

    rank: int = 0
    world_size: int = 1
    data_rank: int = 0
    data_world_size: int = 1
    sequence: SequenceParallelGroup | None = None
    timeout_minutes: float = 0.0
    params_are_sharded: bool = False

    def __init__(self, work_dir: str, seed: int, device: str, autocast_dtype: torch.dtype | None) -> None:
        self.device = resolve_device(device)
        self._autocast_dtype = autocast_dtype
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

        Raises:
            ConfigError: the settings of the strategy contradict optimizer or batching.
        """
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        names = {id(param): name for name, param in model.named_parameters()}
        self._groups = [[names[id(param)] for param in group["params"]] for group in optimizer.param_groups]
        self.model = self._wrap(model, batching)
        self.model.train()
        self._prepared = True

    def _wrap(self, model: nn.Module, batching: Batching | None) -> nn.Module:
        """Return the model that computes losses, ready for gradient reduction or sharded."""
        return model

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Enter torch's autocast if ``mixed_precision`` is set."""
        with autocast(self.device, self._autocast_dtype):
            yield

    def to_device(self, batch: Batch) -> Batch:
        """Move a batch to this rank's device, and attach the sequence-parallel group."""
        return replace(batch.to(self.device), sequence=self.sequence)

    def forward_backward(self, batch: Batch, scale: float, last: bool) -> LossOutput:
        """Run forward and backward of a micro-batch.

        Args:
            batch: micro-batch on any device.
            scale: factor of the summed loss before the gradient is computed.
            last: whether the optimizer step follows, which reduces gradients over the ranks.

        Returns:
            What the objective returned: sums over this rank's batch, not scaled.
        """
        to_train_mode(self.optimizer)
        with self._maybe_no_sync(last):
            with self.autocast():
                output: LossOutput = self.model(self.to_device(batch))
            (output.loss_sum * (scale * self.world_size)).backward()
        return output

    def _maybe_no_sync(self, last: bool) -> AbstractContextManager[None]:
        """Return a context that skips gradient reduction, except for the last micro-batch of a step."""
        return nullcontext()

    def step(self, max_grad_norm: float | None) -> float:
        """Clip gradients, then step optimizer and scheduler.

        Returns:
            The global gradient norm before clipping.

        Raises:
            TrainingError: the norm is not finite; the parameters are unchanged.
        """
        norm = self._clip_grad_norm(math.inf if max_grad_norm is None else max_grad_norm)
        if not math.isfinite(norm):
            raise nonfinite_norm_error(norm)
        self.optimizer.step()
        to_eval_mode(self.optimizer)
        self.lr_scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _clip_grad_norm(self, limit: float) -> float:
        """Scale the gradients to a global norm of at most ``limit``, and return the norm before."""
        params = [param for group in self.optimizer.param_groups for param in group["params"]]
        return float(nn.utils.clip_grad_norm_(params, limit))

    def zero_grad(self) -> None:
        """Discard the gradients of a step that is skipped."""
        self.optimizer.zero_grad(set_to_none=True)
        to_eval_mode(self.optimizer)

    def describe(self) -> list[str]:
        """Return lines about the strategy for the run summary; none for a plain single device."""
        return []

    def summon_full_params(
        self, parameters: Iterable[nn.Parameter], write: bool = False
    ) -> AbstractContextManager[Sequence[Tensor]]:
        """Return a context in which sharded parameters are full on every rank. Collective.

        The counterpart of FSDP's ``summon_full_params``. The context returns the full tensors in the order of
        ``parameters``; inside it, the modules have them too.

        Args:
            parameters: parameters to unshard.
            write: whether changes that rank 0 makes to them are kept.
        """
        return nullcontext(list(parameters))

    def reading_context(self) -> AbstractContextManager[None]:
        """Return a context in which ``from_pretrained`` keeps only what this rank stores of each weight."""
        return nullcontext()

    def load_full_param(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Overwrite a possibly sharded parameter with a full value that all ranks have.

        Args:
            parameter: of the model.
            value: of the full shape; its own shard is enough if it was read in ``reading_context``.
        """
        parameter.data.copy_(value)

    def local_view(self, parameter: nn.Parameter) -> Tensor:
        """Return the elements of a parameter that this rank stores."""
        return parameter

    def sync_master_weights(self) -> None:
        """Update fp32 master weights after parameters were overwritten."""

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimizer state by parameter name, in a form that every strategy and world size can load.

        Returns:
            ``groups``: hyperparameters of each group, and the ``names`` of its parameters. ``state``: for each name the
            optimizer's tensors, in the shape of the full parameter or as a
            :class:`~xft.distributed.sharded.TensorShard`.
        """
        names = [name for group in self._groups for name in group]
        state = self.optimizer.state_dict()["state"]
        return {
            "groups": self._hyperparameters(),
            "state": {names[index]: tensors for index, tensors in state.items()},
        }

    def load_optimizer_state(self, tree: Mapping[str, Any]) -> None:
        """Load a state that ``optimizer_state`` of any strategy and world size returned.

        Raises:
            ValueError: the state belongs to other parameters.
        """
        self._load_hyperparameters(tree["groups"])
        names = [name for group in self._groups for name in group]
        indices = {name: index for index, name in enumerate(names)}
        state_dict = self.optimizer.state_dict()
        state_dict["state"] = {
            indices[name]: {
                key: self._localize(name, value) for key, value in tensors.items() if key != "master"
            }
            for name, tensors in tree["state"].items()
        }
        self.optimizer.load_state_dict(state_dict)

    def _localize(self, name: str, value: object) -> Any:
        """Return the part of a saved optimizer value that this rank's optimizer holds of parameter ``name``."""
        return materialize(value)

    def _hyperparameters(self) -> list[dict[str, Any]]:
        groups = zip(self.optimizer.param_groups, self._groups, strict=True)
        return [
            {**{key: value for key, value in group.items() if key != "params"}, "names": names}
            for group, names in groups
        ]

    def _load_hyperparameters(self, saved: Sequence[Mapping[str, Any]]) -> None:
        if [group["names"] for group in saved] != self._groups:
            raise ValueError("the optimizer state belongs to other parameters than are trainable now")
        for group, saved_group in zip(self.optimizer.param_groups, saved, strict=True):
            group.update({key: value for key, value in saved_group.items() if key != "names"})

    @abstractmethod
    def reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of the values over all ranks, in double precision. Collective."""

    def reduce_data_sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over the data-parallel ranks: a sequence-parallel group counts once. Collective."""
        is_first = self.sequence is None or self.sequence.rank == 0
        return self.reduce_sum([value if is_first else 0.0 for value in values])

    @abstractmethod
    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks in rank order. Collective."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait for all ranks. Collective."""

    @abstractmethod
    def close(self) -> None:
        """Leave the process group; no collective follows."""


def nonfinite_norm_error(norm: float) -> TrainingError:
    """Return the error of a step whose gradient norm is NaN or infinite."""
    return TrainingError(
        f"grad_norm is {norm}; the parameters were not changed",
        key="grad_norm",
        got=norm,
        expected="finite",
    )
