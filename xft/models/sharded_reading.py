"""Read the weights of a model by slices: each rank reads its rows of each tensor, and no others.

transformers reads a slice of a tensor if the parameter that receives it is a DTensor (``from_pretrained`` with its own
FSDP). Here the parameters become DTensors without hooks, as an adapter is attached before the strategy shards the model.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel
from transformers.core_model_loading import Concatenate, MergeModulelist, WeightConverter


@contextmanager
def sharded_reading(make_mesh: Callable[[], DeviceMesh]) -> Iterator[None]:
    """Make ``from_pretrained`` read the rows of this rank, where a parameter is stored as the model has it.

    Quantized models, and models whose parameters are computed from several stored ones by more than stacking experts, are
    read in full.

    Args:
        make_mesh: returns all ranks in one dimension, on the device type of the weights.
    """
    original = PreTrainedModel._load_pretrained_model

    def load(
        model: PreTrainedModel,
        state_dict: dict[str, Tensor] | None,
        checkpoint_files: list[str] | None,
        load_config: Any,
    ) -> Any:
        if load_config.hf_quantizer is None and _is_stored_by_rows(load_config.weight_mapping or []):
            shard_meta_parameters(model, make_mesh())
        return original(model, state_dict, checkpoint_files, load_config)

    PreTrainedModel._load_pretrained_model = staticmethod(load)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        PreTrainedModel._load_pretrained_model = staticmethod(original)  # type: ignore[method-assign]


def _is_stored_by_rows(weight_mapping: list[Any]) -> bool:
    """Return whether rows of each parameter are rows of stored tensors, or stored experts."""
    converters = [entry for entry in weight_mapping if isinstance(entry, WeightConverter)]
    return all(
        isinstance(converter.operations[0], MergeModulelist)
        and all(isinstance(operation, MergeModulelist | Concatenate) for operation in converter.operations)
        for converter in converters
    )


def shard_meta_parameters(model: nn.Module, mesh: DeviceMesh) -> None:
    """Replace parameters on the meta device by DTensors that are split by rows."""
    replaced: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, param in module._parameters.items():
            if param is None or not param.is_meta or param.ndim == 0:
                continue
            if id(param) not in replaced:
                replaced[id(param)] = _shard_meta(param, mesh)
            module._parameters[name] = replaced[id(param)]


def _shard_meta(param: nn.Parameter, mesh: DeviceMesh) -> nn.Parameter:
    size = -(-param.shape[0] // mesh.size())
    first = min(mesh.get_local_rank() * size, param.shape[0])
    rows = min(first + size, param.shape[0]) - first
    sharded = DTensor.from_local(
        torch.empty((rows, *param.shape[1:]), dtype=param.dtype, device="meta"),
        mesh,
        [Shard(0)],
        run_check=False,
        shape=param.shape,
        stride=param.stride(),
    )
    return nn.Parameter(sharded, requires_grad=param.requires_grad)


def full_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module with full parameters, or the module if it has no DTensors. Collective."""
    full = {
        id(param): nn.Parameter(_gather(param), requires_grad=False)
        for param in module.parameters()
        if isinstance(param, DTensor)
    }
    return deepcopy(module, full) if full else module


def gather_parameters(module: nn.Module) -> None:
    """Replace the DTensors of a module by full parameters, which ``fully_shard`` shards again. Collective."""
    for name, param in module._parameters.items():
        if isinstance(param, DTensor):
            module._parameters[name] = nn.Parameter(_gather(param), requires_grad=param.requires_grad)


def _gather(param: DTensor) -> Tensor:
    with torch.no_grad():
        return param.full_tensor()
