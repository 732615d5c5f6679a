"""Weights that are fully trained next to a frozen base in 16 bits: kept in fp32, used in the dtype of the base.

In bf16, an update below half a unit in the last place is lost. A module with such weights therefore gets a subclass of
its class, in which reading a weight rounds it to the dtype of the base. The forward pass is that of the base, and of the
merged model, bit for bit; gradients, updates and saved adapters are in fp32. Names of weights stay the same.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from xft.models.param_shapes import is_sharded

ModuleClass = Any
"""A subclass of ``nn.Module`` that is known only at run time."""
_HALF = (torch.bfloat16, torch.float16)
_ROUNDED = "_rounded_dtypes"
"""Attribute of such a class: dtype in which a weight is used, by its name."""


def upcast_full_modules(model: nn.Module, params: Iterable[nn.Parameter] | None = None) -> None:
    """Convert weights in 16 bits to fp32; modules round them to their former dtype when they use them.

    Sharded weights stay as they are: DeepSpeed, which shards weights while they are read, trains fp32 copies.

    Args:
        model: of transformers or peft; modified in place.
        params: weights to convert; by default all trainable ones.
    """
    if params is None:
        params = (param for param in model.parameters() if param.requires_grad)
    chosen = {id(param): param for param in params if param.dtype in _HALF and not is_sharded(param)}
    rounded = {
        module: tuple((name, param.dtype) for name, param in _direct(module) if id(param) in chosen)
        for module in model.modules()
    }
    dtypes: dict[nn.Module, torch.dtype] = {
        module: module.dtype for module in model.modules() if isinstance(module, PreTrainedModel)
    }
    for param in chosen.values():
        param.data = param.data.float()
    for module, names in rounded.items():
        # transformers reads the dtype of a model from its first weight, and casts pixels to it.
        dtype = dtypes.get(module)
        changed = dtype is not None and module.dtype != dtype
        if names or changed:
            original: ModuleClass = type(module)
            module.__class__ = _rounding(original, names, dtype if changed else None)


def downcast_full_modules(model: nn.Module) -> None:
    """Undo :func:`upcast_full_modules`: round the weights to the dtype of the base."""
    for module in model.modules():
        dtypes: dict[str, torch.dtype] = getattr(module, _ROUNDED, {})
        for name, param in _direct(module):
            param.data = param.data.to(dtypes.get(name, param.dtype))
        if _ROUNDED in vars(type(module)):
            module.__class__ = type(module).__bases__[0]


def _direct(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters of a module itself, shared ones included, as they are stored."""
    return [(name, param) for name, param in module._parameters.items() if param is not None]


@cache
def _rounding(
    original: ModuleClass, weights: tuple[tuple[str, torch.dtype], ...], dtype: torch.dtype | None
) -> ModuleClass:
    """Make a subclass in which reading a weight rounds it.

    Its name stays: transformers records outputs of modules by the names of their classes.

    Args:
        original: class of the module.
        weights: names and dtypes of the rounded weights.
        dtype: of a model whose first weight is rounded; ``None`` for any other module.
    """
    members: dict[str, Any] = {name: _rounded_weight(name, to) for name, to in weights}
    if original is nn.Embedding:
        members["forward"] = _embed
    if dtype is not None:
        members["dtype"] = property(lambda model: dtype)
    place = {"__module__": original.__module__, "__qualname__": original.__qualname__}
    return type(original.__name__, (original,), {**place, **members, _ROUNDED: dict(weights)})


def _rounded_weight(name: str, dtype: torch.dtype) -> property:
    def read(module: nn.Module) -> Tensor:
        param = module._parameters[name]
        assert param is not None
        # FSDP2 reads the sharded parameter itself; layers compute with the gathered one.
        return param if isinstance(param, DTensor) else param.to(dtype)

    return property(read)


def _embed(module: nn.Embedding, input: Tensor) -> Tensor:
    """Look up rows, then round them: a rounded copy of all rows may be the largest tensor of a step."""
    weight = module._parameters["weight"]
    assert weight is not None
    rows = embedding(
        input,
        weight,
        module.padding_idx,
        module.max_norm,
        module.norm_type,
        module.scale_grad_by_freq,
        module.sparse,
    )
    return rows.to(getattr(module, _ROUNDED)["weight"])
