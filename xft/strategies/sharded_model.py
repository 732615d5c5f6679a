"""Shard a model with ``fully_shard``: one group per decoder layer, and one for all other parameters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor

from xft.errors import ConfigError
from xft.models.activation_checkpointing import checkpointed_layers
from xft.models.param_shapes import quant_state
from xft.utils.memory import release_freed_memory


@dataclass(frozen=True)
class _Attributes:
    """What a parameter object carries besides its values; ``fully_shard`` replaces the object.

    Attributes:
        owner: module of the parameter.
        name: name in the module.
        state: quantization state of bitsandbytes.
        hooks: hooks on its gradient.
    """

    owner: nn.Module
    name: str
    state: object
    hooks: Sequence[Any]

    def restore(self) -> bool:
        """Set them on the gathered parameter. Returns whether the parameter is gathered now."""
        param = self.owner.get_parameter(self.name)
        if isinstance(param, DTensor):
            return False
        for hook in self.hooks:
            param.register_hook(hook)
        self.set_state()
        return True

    def set_state(self) -> None:
        """Set the quantization state."""
        if self.state is not None:
            self.owner.get_parameter(self.name).quant_state = self.state  # type: ignore[attr-defined]


class ShardedModel:
    """A model sharded in place.

    Args:
        model: training model, in host memory or on the device of the mesh.
        mesh: all ranks, in one dimension.
        policy: dtypes of computation and reduction.
        cpu_offload: keep shards in host memory.
        reshard_after_forward: free gathered parameters of a layer, except the last, after its forward pass.

    Attributes:
        root: the model.
        num_groups: number of groups of parameters that are gathered together.
    """

    def __init__(
        self,
        model: nn.Module,
        mesh: DeviceMesh,
        policy: MixedPrecisionPolicy,
        cpu_offload: bool,
        reshard_after_forward: bool,
    ) -> None:
        attributes, rows = _record_attributes(model), _take_rows(model)
        offload = CPUOffloadPolicy(pin_memory=mesh.device_type != "cpu") if cpu_offload else OffloadPolicy()
        layers = _layers(model)
        for layer in reversed(layers):
            fully_shard(
                layer,
                mesh=mesh,
                mp_policy=policy,
                offload_policy=offload,
                # Backward starts with the last layer: it would be freed, and gathered again immediately.
                reshard_after_forward=reshard_after_forward and layer is not layers[-1],
            )
        root: Any = fully_shard(model, mesh=mesh, mp_policy=policy, offload_policy=offload)
        self.root: FSDPModule = root
        groups: list[Any] = [root, *layers]
        self._groups: list[FSDPModule] = groups
        self.num_groups = len(layers) + 1
        self._device = torch.device(mesh.device_type)
        # Ranks route tokens to different experts: all of them must reduce the same gradients.
        root.set_reduce_scatter_unused_params(True)
        _set_rows(rows, torch.device("cpu") if cpu_offload else self._device)
        fully_shard.state(model)._lazy_init()  # type: ignore[attr-defined]
        _restore_attributes(attributes, groups)
        self._outermost: nn.Module | None = None
        self._hook_root_modules(model, set(layers))

    def full_tensor(self, param: Tensor) -> Tensor:
        """Gather a parameter on the device of the ranks. Collective."""
        if not isinstance(param, DTensor):
            return param.detach().clone()
        # Offloaded shards are gathered on the device too: NCCL needs it.
        on_device = param.detach().to(self._device)
        assert isinstance(on_device, DTensor)
        full = on_device.full_tensor()
        is_alias = full.data_ptr() == param.to_local().data_ptr()  # on one rank
        return full.clone() if is_alias else full

    def _hook_root_modules(self, model: nn.Module, layers: set[nn.Module]) -> None:
        """Gather the group of the root for any of its modules, not for the whole model only.

        ``fully_shard`` gathers it when the training model is called. Generation, validation and objectives also call
        the language model, its decoder or its head.
        """
        pending = [model]
        while pending:
            module = pending.pop()
            module.register_forward_pre_hook(self._enter)
            module.register_forward_hook(self._leave, always_call=True)
            pending += [child for child in module.children() if child not in layers]

    def _enter(self, module: nn.Module, *_: object) -> None:
        if self._outermost is None:
            self._outermost = module
            self.root.unshard()

    def _leave(self, module: nn.Module, *_: object) -> None:
        if self._outermost is module:
            self._outermost = None
            if not torch.is_grad_enabled():
                # Training keeps them for backward. Layers are gathered still with reshard_after_forward=False.
                for group in self._groups:
                    group.reshard()


def _layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that are groups of their own, parents before children."""
    layers: list[nn.Module] = [*checkpointed_layers(model)]
    return [layer for layer in layers if any(True for _ in layer.parameters())]


def _take_rows(model: nn.Module) -> list[tuple[nn.Module, str, DTensor]]:
    """Replace parameters that were read by rows with empty ones of full shape, which ``fully_shard`` accepts."""
    taken: list[tuple[nn.Module, str, DTensor]] = []
    empty: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, param in module._parameters.items():
            if isinstance(param, DTensor):
                if id(param) not in empty:
                    meta = torch.empty(param.shape, dtype=param.dtype, device="meta")
                    empty[id(param)] = nn.Parameter(meta, requires_grad=param.requires_grad)
                module._parameters[name] = empty[id(param)]
                taken.append((module, name, param))
    return taken


def _set_rows(rows: Sequence[tuple[nn.Module, str, DTensor]], device: torch.device) -> None:
    """Set the rows that were read, in place of the empty ones of ``fully_shard``."""
    params: dict[int, nn.Parameter] = {}
    for module, name, read in rows:
        if id(read) not in params:
            empty = module.get_parameter(name)
            assert isinstance(empty, DTensor)
            local = read.to_local().detach().to(device)
            sharded = DTensor(local, empty._spec, requires_grad=False)
            params[id(read)] = nn.Parameter(sharded, requires_grad=read.requires_grad)
        module._parameters[name] = params[id(read)]


def _record_attributes(model: nn.Module) -> list[_Attributes]:
    """Record gradient hooks and quantization states of all parameters, and make all plain parameters."""
    recorded = []
    for module in model.modules():
        for name, param in list(module.named_parameters(recurse=False)):
            state, hooks = quant_state(param), list((param._backward_hooks or {}).values())
            if state is None and not hooks:
                continue
            recorded.append(_Attributes(module, name, state, hooks))
            if state is not None:
                # The class of bitsandbytes would repack what it is split into.
                module.register_parameter(name, nn.Parameter(param.data, requires_grad=False))
    return recorded


def _restore_attributes(attributes: Sequence[_Attributes], modules: Sequence[Any]) -> None:
    """Set them on gathered parameters, whose objects live as long as the model, and on the sharded ones. Collective."""
    pending = list(attributes)
    for module in modules if pending else ():
        module.unshard()
        pending = [attribute for attribute in pending if not attribute.restore()]
        module.reshard()
        release_freed_memory()
    for attribute in attributes:
        attribute.set_state()


def check_shardable(model: nn.Module, sees_images: bool) -> None:
    """Check that a model can be sharded.

    Raises:
        ConfigError: it cannot.
    """
    if sees_images:
        raise ConfigError(
            key="strategy.type",
            got="fsdp2 with a vision-language model",
            expected="another strategy: the layers of the vision tower would wait for ranks whose batch has no image",
            fix="use ddp or --deepspeed zero2",
        )
    for name, param in model.named_parameters():
        if param.dtype == torch.int8:
            raise ConfigError(
                key="quantization.type",
                got="int8",
                expected="'nf4' with FSDP2: bitsandbytes keeps the scales of int8 weights in the parameter objects, which "
                f"fully_shard replaces ({name})",
            )
        if param.ndim == 0:
            raise ConfigError(
                key="strategy.type",
                got="fsdp2",
                expected=f"another strategy: {name} is a single number, which has no rows to shard",
                fix="use ddp or --deepspeed zero2",
            )
    for layer in [*_layers(model), model]:
        dtypes = {param.dtype for param in layer.parameters() if param.requires_grad}
        if len(dtypes) > 1:
            names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
            raise ConfigError(
                key="strategy.type",
                got=f"fsdp2 with trainable parameters in {names}",
                expected="one dtype, because gradients of a layer are reduced together",
                fix="set model.dtype='float32' and strategy.mixed_precision='bf16', or use --deepspeed zero3",
            )
