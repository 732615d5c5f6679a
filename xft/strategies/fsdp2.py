"""FSDP2 (torch's ``fully_shard``; Zhao et al. 2023, https://arxiv.org/abs/2304.11277) as a strategy.

Parameters, gradients and optimizer state are sharded by rows over all ranks. The parameters of a decoder layer are
gathered together when the layer computes; all other parameters are one more group. The optimizer gets the local rows as
ordinary tensors: each of its operations is that of a single device.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from xft.distributed.devices import resolve_device
from xft.distributed.sharded import ShardedTensorReader, TensorShard, read_range, rows_of_rank
from xft.errors import ConfigError
from xft.models.param_shapes import full_shape, local_shard
from xft.models.sharded_reading import sharded_reading
from xft.optim import elementwise_problem
from xft.registry import register
from xft.strategies.batching import Batching
from xft.strategies.ddp import DistributedConfig, DistributedStrategy
from xft.strategies.sharded_model import ShardedModel, check_shardable


def world_mesh(device: torch.device) -> DeviceMesh:
    """Return all ranks in one dimension."""
    return init_device_mesh(device.type, (distributed.get_world_size(),))


Owners = list[tuple[nn.Module, str]]
"""Modules that hold a parameter, with its name in each."""


class FSDP2(DistributedStrategy):
    """Parameters, gradients and optimizer state sharded by rows over all ranks.

    Args:
        work_dir: run folder.
        seed: seed of the run.
        config: settings; the process group exists already.
    """

    params_are_sharded = True

    def __init__(self, work_dir: str, seed: int, config: "FSDP2Config") -> None:
        super().__init__(work_dir, seed, config)
        self._config = config
        # The policy of fully_shard casts parameters before they are gathered, in place of autocast.
        self._policy = MixedPrecisionPolicy(
            param_dtype=config.autocast_dtype,
            reduce_dtype=None if config.autocast_dtype is None else torch.float32,
        )
        self._autocast_dtype = None

    def _wrap(self, model: nn.Module, batching: Batching | None) -> nn.Module:
        """Shard the model, and give the optimizer the local rows of its parameters."""
        self._sharded = ShardedModel(
            model,
            world_mesh(self.device),
            self._policy,
            self._config.cpu_offload,
            self._config.reshard_after_forward,
        )
        self._owners: dict[int, Owners] = {}
        for module in model.modules():
            for name, param in module.named_parameters(recurse=False):
                self._owners.setdefault(id(param), []).append((module, name))
        self._trainable = {name: param for name, param in model.named_parameters() if param.requires_grad}
        self._local = {
            name: nn.Parameter(local_shard(param).detach()) for name, param in self._trainable.items()
        }
        for group, names in zip(self.optimizer.param_groups, self._groups, strict=True):
            group["params"] = [self._local[name] for name in names]
        return model

    def describe(self) -> list[str]:
        """Return lines for the run summary."""
        offload = ", parameters and optimizer state in host memory" if self._config.cpu_offload else ""
        ranks = f"{self.world_size} rank{'s' if self.world_size > 1 else ''}"
        return [f"fsdp2     {self._sharded.num_groups} groups on {ranks}{offload}", *super().describe()]

    def _clip_grad_norm(self, limit: float) -> float:
        """Give the optimizer the local gradients, clipped by the norm over all ranks."""
        for name, param in self._trainable.items():
            grad = param.grad
            self._local[name].grad = None if grad is None else local_shard(grad)
        local = list(self._local.values())
        grads = [param.grad for param in local if param.grad is not None and param.grad.numel()]
        square = float(nn.utils.get_total_norm(grads)) ** 2 if grads else 0.0
        norm = math.sqrt(self.reduce_sum([square])[0])
        nn.utils.clip_grads_with_norm_(local, limit, torch.tensor(norm))
        return norm

    def step(self, max_grad_norm: float | None) -> float:
        """Clip gradients, then step optimizer and scheduler; see the base class."""
        norm = super().step(max_grad_norm)
        self._discard_gradients()
        return norm

    def zero_grad(self) -> None:
        """Discard the gradients of a step that is skipped, maybe between forward and backward."""
        super().zero_grad()
        self._discard_gradients()
        self._sharded.root.reset_iter_state()

    def _discard_gradients(self) -> None:
        for param in self._trainable.values():
            param.grad = None

    @contextmanager
    def summon_full_params(
        self, parameters: Iterable[nn.Parameter], write: bool = False
    ) -> Iterator[Sequence[Tensor]]:
        """Gather parameters inside the context; see the base class. Collective."""
        params = list(parameters)
        full = [self._sharded.full_tensor(param) for param in params]
        for param, value in zip(params, full, strict=True):
            for module, name in self._owners[id(param)]:
                module._parameters[name] = nn.Parameter(value, requires_grad=param.requires_grad)
        try:
            yield full
        finally:
            for param in params:
                for module, name in self._owners[id(param)]:
                    module._parameters[name] = param
        if write:
            for param, value in zip(params, full, strict=True):
                distributed.broadcast(value, src=0)
                self.load_full_param(param, value)

    def reading_context(self) -> AbstractContextManager[None]:
        """Return a context in which a rank reads its rows only; see the base class."""
        return sharded_reading(lambda: world_mesh(self.device))

    def load_full_param(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Overwrite this rank's rows of a parameter; see the base class."""
        if isinstance(value, DTensor):
            local_shard(parameter).detach().copy_(value.to_local())
            return
        start, stop = rows_of_rank(len(value), self.rank, self.world_size)
        local_shard(parameter).detach().copy_(value[start:stop])

    def local_view(self, parameter: nn.Parameter) -> Tensor:
        """Return the rows of a parameter that this rank stores; see the base class."""
        return local_shard(parameter)

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimizer state by parameter name; see the base class."""
        tree = super().optimizer_state()
        tree["state"] = {
            name: {key: self._shard_of(name, value) for key, value in tensors.items()}
            for name, tensors in tree["state"].items()
        }
        return tree

    def _shard_of(self, name: str, value: object) -> Any:
        """Return a tensor of the optimizer as a shard; any other value unchanged."""
        if not isinstance(value, Tensor) or value.shape != self._local[name].shape:
            return value
        shape = full_shape(self._trainable[name])
        return TensorShard(tuple(shape), self._range_of(name)[0], value.flatten())

    def _range_of(self, name: str) -> tuple[int, int]:
        """Return begin and end of this rank's elements of the flattened parameter."""
        shape = full_shape(self._trainable[name])
        start, stop = rows_of_rank(shape[0], self.rank, self.world_size)
        size = shape[1:].numel()
        return start * size, stop * size

    def _localize(self, name: str, value: object) -> Any:
        if not isinstance(value, Tensor | ShardedTensorReader) or value.ndim == 0:
            return value
        return read_range(value, *self._range_of(name)).reshape(self._local[name].shape)

    def close(self) -> None:
        """Leave the process group."""
        del self._sharded
        super().close()


@register("strategy", "fsdp2")
@dataclass(frozen=True)
class FSDP2Config(DistributedConfig):
    """FSDP2 of torch, which shards parameters, gradients and optimizer state by rows.

    Args:
        cpu_offload: keep sharded parameters, gradients and optimizer state in host memory, where the optimizer steps.
        reshard_after_forward: free the gathered parameters of a layer after its forward pass, and gather them again for
            backward; the last layer, with which backward starts, stays gathered. ``False`` needs the memory of all
            parameters on each rank, and half of the communication.
    """

    cpu_offload: bool = False
    reshard_after_forward: bool = True

    def validate(self, optimizer: Callable[..., torch.optim.Optimizer]) -> None:
        """Check that torch has the parts of FSDP2 that xft needs, and that the optimizer's state can be sharded."""
        if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
            raise ConfigError(
                key="strategy.type",
                got="fsdp2",
                expected=f"torch 2.13 or newer, not {torch.__version__}",
                fix="update torch, or use --deepspeed zero3",
            )
        if problem := elementwise_problem(optimizer):
            raise ConfigError(
                f"optimizer: {problem}; under FSDP2, each rank steps its rows of a parameter: use 'adamw'",
                key="optimizer.type",
                got=problem,
            )

    @contextmanager
    def model_init_context(
        self, dtype: torch.dtype, is_quantized: bool, needs_full_weights: bool = False
    ) -> Iterator[None]:
        """Read the rows of this rank only, unless loading needs full weights."""
        if needs_full_weights:
            yield
            return
        with sharded_reading(lambda: world_mesh(resolve_device(self.device))):
            yield

    def check_model(self, model: nn.Module, sees_images: bool) -> None:
        """Check that a loaded model can be sharded."""
        check_shardable(model, sees_images)

    def build(self, work_dir: str, seed: int) -> FSDP2:
        """Build the strategy of a run."""
        return FSDP2(work_dir, seed, self)
