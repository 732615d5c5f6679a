"""Read and write this rank's shards of parameters and optimizer state under ZeRO, by parameter name."""

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from xft.distributed.sharded import ShardedTensorReader, TensorShard, read_range
from xft.models.param_shapes import full_shape
from xft.optim import build_optimizer, elementwise_problem, is_schedule_free

FP32_PARAM = "master"
"""Key of the fp32 master copy of a 16-bit parameter."""


def shard_problem(create: Callable[..., torch.optim.Optimizer]) -> str:
    """Return why ZeRO cannot shard an optimizer; empty if it can.

    Args:
        create: optimizer class or function, with everything except the parameters bound.
    """
    optimizer = build_optimizer(create, nn.ParameterList([torch.zeros(1, 1)]))
    if is_schedule_free(optimizer):
        return f"{type(optimizer).__name__} moves the weights between two points, and ZeRO's copies of them would not follow"
    return elementwise_problem(create) or elementwise_problem(create, flat=True)


class _LocalShard(Tensor):
    ds_numel: int


class ZeroParameter(nn.Parameter):
    """Attributes that DeepSpeed adds to a parameter; never instantiated.

    Attributes:
        ds_shape: full shape, under stage 3.
        ds_numel: number of elements of the full parameter, under stage 3.
        ds_tensor: this rank's shard with its padding, under stage 3.
    """

    ds_shape: torch.Size
    ds_numel: int
    ds_tensor: _LocalShard
    _hp_mapping: Any


class ZeroOptimizerState:
    """Optimizer state and fp32 parameters of one rank under ZeRO 1 to 3.

    Under stages 1 and 2, each optimizer group is one flat tensor, split into one shard per rank; a parameter may
    cross a shard boundary. Under stage 3, each parameter is split separately.

    Args:
        engine: DeepSpeed engine.
        stage: ZeRO stage.
        trainable: trainable parameters by name.
        rank: rank of this process.
        world_size: number of ranks.
    """

    def __init__(
        self, engine: Any, stage: int, trainable: Mapping[str, nn.Parameter], rank: int, world_size: int
    ) -> None:
        self._sharded = engine.optimizer
        self._stage = stage
        self._trainable = cast(Mapping[str, ZeroParameter], trainable)
        self._rank = rank
        self._world_size = world_size

    def state(self) -> dict[str, Any]:
        """Return the optimizer state by parameter name, as in ``SingleDevice.optimizer_state``."""
        self._build_index()
        state: dict[str, Any] = {}
        for name, weight in self._trainable.items():
            flat, kept = self._flat_state(weight)
            if not kept:
                continue
            state[name] = {
                key: self._shard_of(weight, key) if _is_like(value, flat) else value
                for key, value in kept.items()
            }
            if weight.dtype != torch.float32:
                state[name][FP32_PARAM] = self._shard_of(weight, None)
        return state

    def _shard_of(self, weight: ZeroParameter, key: str | None) -> TensorShard:
        """Return this rank's shard of the optimizer tensor ``key``, or of the fp32 parameter if ``key`` is ``None``."""
        begin, end = self._fragment_range(weight)
        return TensorShard(
            tuple(full_shape(weight)), begin, self._fragment_tensor(weight, key)[: end - begin]
        )

    def _fragment_range(self, weight: ZeroParameter) -> tuple[int, int]:
        """Return begin and end of this rank's elements of a parameter."""
        if self._stage == 3:
            size = weight.ds_tensor.ds_numel
            return min(self._rank * size, weight.ds_numel), min((self._rank + 1) * size, weight.ds_numel)
        if weight._hp_mapping is None:
            return 0, 0
        at = weight._hp_mapping.lp_fragment_address
        return at.start, at.start + at.numel

    def _fragment_tensor(self, weight: ZeroParameter, key: str | None) -> Tensor:
        """Return the elements of ``_fragment_range``, followed under stage 3 by the padding of the last shard."""
        fragment: Tensor
        if self._stage == 3:
            from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

            get = safe_get_local_fp32_param if key is None else safe_get_local_optimizer_state
            fragment = get(weight) if key is None else get(weight, key)
        elif weight._hp_mapping is None:
            return torch.empty(0)
        else:
            fragment = weight._hp_mapping.get_hp_fragment(key)
        return fragment.flatten()

    def load(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Load this rank's shards of a state that any strategy and world size returned."""
        for name, weight in self._trainable.items():
            flat, kept = self._flat_state(weight)
            for key, value in saved.get(name, {}).items():
                if key != FP32_PARAM and key not in kept:
                    kept[key] = torch.zeros_like(flat) if value.ndim > 0 else value.clone()
        self._build_index()
        for name, weight in self._trainable.items():
            for key, value in saved.get(name, {}).items():
                if key == FP32_PARAM and weight.dtype != torch.float32:
                    self._set(weight, value, None)
                elif key != FP32_PARAM and value.ndim > 0:
                    self._set(weight, value, key)

    def _build_index(self) -> None:
        """Make DeepSpeed map parameters to their optimizer state again.

        DeepSpeed does so once, after the step of the first group, when the state of the other groups does not exist yet.
        """
        if self._stage < 3:
            self._sharded._hp_optimizer_states_linked = False
            self._sharded._lazy_init_hp_params_optimizer_state()

    def load_full_param(self, weight: nn.Parameter, value: Tensor) -> None:
        """Overwrite a parameter that is sharded under stage 3."""
        sharded = cast(ZeroParameter, weight)
        sharded.ds_tensor.data.copy_(self._local_shard(sharded, value))
        if sharded.data.shape == sharded.ds_shape:
            sharded.data.copy_(value)

    def _set(self, weight: ZeroParameter, value: Tensor | ShardedTensorReader, key: str | None) -> None:
        begin, end = self._fragment_range(weight)
        if begin == end:
            return
        part = read_range(value, begin, end)
        if self._stage < 3:
            self._fragment_tensor(weight, key).copy_(part)
            return
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        filled = pad(part, (0, weight.ds_tensor.ds_numel - len(part)))
        if key is None:
            safe_set_local_fp32_param(weight, filled)
        else:
            safe_set_local_optimizer_state(weight, filled, key)

    def _local_shard(self, weight: ZeroParameter, value: Tensor) -> Tensor:
        """Return this rank's padded shard of a full tensor, split as a parameter of stage 3."""
        size = weight.ds_tensor.ds_numel
        flat = value.detach().reshape(-1)
        whole = pad(flat, (0, size * self._world_size - len(flat)))
        return whole[size * self._rank : size * (self._rank + 1)]

    def _flat_state(self, weight: ZeroParameter) -> tuple[Tensor, dict[str, Any]]:
        """Return the flat tensor that contains a parameter's shard, and the optimizer state of that tensor."""
        sharded = self._sharded
        if self._stage == 3:
            at = sharded.grad_position[sharded.get_param_id(weight)][0]
            flat: Tensor = sharded.fp32_partitioned_groups_flat[at]
        else:
            groups = enumerate(sharded.bit16_groups)
            at = next(number for number, group in groups if any(param is weight for param in group))
            flat = sharded.single_partition_of_fp32_groups[at]
        kept: dict[str, Any] = sharded.optimizer.state[flat]
        return flat, kept


def _is_like(value: object, flat: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == flat.shape
