"""The shares that ranks have of weights and of the optimizer's state, as whole tensors by name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from xft.checkpoint.sharded import ShardedTensorReader, TensorShard
from xft.models.param_shapes import full_shape
from xft.optim import is_schedule_free

MASTER = "master"
"""The name of the fp32 copy of a weight that is trained in 16 bits."""


def unshardable_reason(optimizer: torch.optim.Optimizer) -> str | None:
    """Why what an optimizer steps cannot be shared out; ``None`` where it can."""
    kind = type(optimizer)
    if kind.__module__.startswith("bitsandbytes"):
        return f"the state of {kind.__name__} is quantised in blocks and cannot be shared out"
    if is_schedule_free(optimizer):
        return (
            f"{kind.__name__} moves the weights between what it steps and their average, of which ZeRO has copies "
            "that would not follow"
        )
    if kind.__name__ == "Muon":
        return "muon is for matrices, and ZeRO hands an optimizer flat pieces of them"
    return None


class ZeroOptimizerState:
    """The shares of one rank, under ZeRO 1 to 3.

    Under stages 1 and 2 each group of the optimizer is one flat tensor, cut into as many pieces as
    there are ranks; a weight may lie across a cut. Under stage 3 each weight is cut by itself.

    Args:
        engine: DeepSpeed's.
        stage: of ZeRO.
        trained: the trained weights, by name.
        rank: of this process.
        world_size: how many ranks there are.
    """

    def __init__(
        self, engine: Any, stage: int, trained: Mapping[str, nn.Parameter], rank: int, world_size: int
    ) -> None:
        self._sharded = engine.optimizer
        self._stage = stage
        self._trained = trained
        self._rank = rank
        self._world_size = world_size

    def state(self) -> dict[str, Any]:
        """What the optimizer keeps of each weight, as ``SingleDevice.optimizer_state`` has it."""
        self._build_index()
        state: dict[str, Any] = {}
        for name, weight in self._trained.items():
            flat, kept = self._kept(weight)
            if not kept:
                continue
            state[name] = {
                key: self._sharded_of(weight, key) if _is_like(value, flat) else value
                for key, value in kept.items()
            }
            if weight.dtype != torch.float32:
                state[name][MASTER] = self._sharded_of(weight, None)
        return state

    def _sharded_of(self, weight: Any, key: str | None) -> TensorShard:
        """This rank's share of the copy of a weight in full precision, or of a state of that name."""
        begin, end = self._fragment_range(weight)
        return TensorShard(
            tuple(full_shape(weight)), begin, self._fragment_tensor(weight, key)[: end - begin]
        )

    def _fragment_range(self, weight: Any) -> tuple[int, int]:
        """Which numbers of a weight are this rank's."""
        if self._stage == 3:
            size = weight.ds_tensor.ds_numel
            return min(self._rank * size, weight.ds_numel), min((self._rank + 1) * size, weight.ds_numel)
        if weight._hp_mapping is None:
            return 0, 0
        at = weight._hp_mapping.lp_fragment_address
        return at.start, at.start + at.numel

    def _fragment_tensor(self, weight: Any, key: str | None) -> Tensor:
        """The numbers themselves: those of ``_fragment_range``, and under stage 3 what fills the last share up."""
        found: Tensor
        if self._stage == 3:
            from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

            ask = safe_get_local_fp32_param if key is None else safe_get_local_optimizer_state
            found = ask(weight) if key is None else ask(weight, key)
        elif weight._hp_mapping is None:
            return torch.empty(0)
        else:
            found = weight._hp_mapping.get_hp_fragment(key)
        return found.flatten()

    def load(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Take this rank's shares of what ``state`` gave, of any strategy on any number of ranks."""
        for name, weight in self._trained.items():
            flat, kept = self._kept(weight)
            for key, value in found.get(name, {}).items():
                if key != MASTER and key not in kept:
                    kept[key] = torch.zeros_like(flat) if value.ndim > 0 else value.clone()
        self._build_index()
        for name, weight in self._trained.items():
            for key, value in found.get(name, {}).items():
                if key == MASTER and weight.dtype != torch.float32:
                    self._set(weight, value, None)
                elif key != MASTER and value.ndim > 0:
                    self._set(weight, value, key)

    def _build_index(self) -> None:
        """Let DeepSpeed find the state by weights. It does so once, after the first group of the
        optimizer has been stepped, when the state of the other groups is not there yet."""
        if self._stage < 3:
            self._sharded._hp_optimizer_states_linked = False
            self._sharded._lazy_init_hp_params_optimizer_state()

    def put(self, weight: nn.Parameter, value: Tensor) -> None:
        """Write over a weight of stage 3."""
        ours: Any = weight
        ours.ds_tensor.data.copy_(self._share(ours, value))
        if ours.data.shape == ours.ds_shape:
            ours.data.copy_(value)

    def _set(self, weight: nn.Parameter, value: Tensor | ShardedTensorReader, key: str | None) -> None:
        begin, end = self._fragment_range(weight)
        if begin == end:
            return
        part = (
            value.read_range(begin, end)
            if isinstance(value, ShardedTensorReader)
            else value.flatten()[begin:end]
        )
        if self._stage < 3:
            self._fragment_tensor(weight, key).copy_(part)
            return
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        ours: Any = weight
        filled = pad(part, (0, ours.ds_tensor.ds_numel - len(part)))
        if key is None:
            safe_set_local_fp32_param(weight, filled)
        else:
            safe_set_local_optimizer_state(weight, filled, key)

    def _share(self, weight: Any, value: Tensor) -> Tensor:
        """This rank's share of a tensor that is shaped like a weight of stage 3."""
        size = weight.ds_tensor.ds_numel
        flat = value.detach().reshape(-1)
        whole = pad(flat, (0, size * self._world_size - len(flat)))
        return whole[size * self._rank : size * (self._rank + 1)]

    def _kept(self, weight: Any) -> tuple[Tensor, dict[str, Any]]:
        """The flat tensor that a weight's share lies in, and what the optimizer keeps of it."""
        sharded = self._sharded
        if self._stage == 3:
            at = sharded.grad_position[sharded.get_param_id(weight)][0]
            flat: Tensor = sharded.fp32_partitioned_groups_flat[at]
        else:
            groups = enumerate(sharded.bit16_groups)
            at = next(number for number, group in groups if any(each is weight for each in group))
            flat = sharded.single_partition_of_fp32_groups[at]
        kept: dict[str, Any] = sharded.optimizer.state[flat]
        return flat, kept


def _is_like(value: Any, flat: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == flat.shape
