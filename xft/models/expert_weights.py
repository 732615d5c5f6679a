"""Weights of fused experts that are computed when they are used: from NF4, with LoRA, or both.

torch's parametrization computes such a weight in the forward pass. Autograd would keep it until the backward pass: one
16-bit copy of all experts of the model. Here it is computed again in the backward pass.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils import parametrize

from xft.models.experts import fused_weights, is_fused
from xft.models.param_shapes import quant_state

ModuleClass = Any
"""A subclass of ``nn.Module`` that is known only at run time."""


def recompute_expert_weights(model: nn.Module) -> None:
    """Make the fused experts of a model compute parametrized weights again in the backward pass.

    Called before weights are parametrized, which makes another subclass.
    """
    for module in model.modules():
        if is_fused(module) and not getattr(module, "recomputes_weights", False):
            original: ModuleClass = type(module)
            module.__class__ = _recomputing(original)


@cache
def _recomputing(original: ModuleClass) -> ModuleClass:
    """Make a subclass of a class of fused experts."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not parametrize.is_parametrized(self):
            return original.forward(self, *args, **kwargs)
        with parametrize.cached():
            recompute = saved_tensors_hooks(*_hooks(self)) if torch.is_grad_enabled() else nullcontext()
            with recompute:
                return original.forward(self, *args, **kwargs)

    members = {"forward": forward, "__module__": __name__, "recomputes_weights": True}
    return type(f"Recomputing{original.__name__}", (original,), members)


def _hooks(module: Any) -> tuple[Callable[[Tensor], Any], Callable[[Any], Tensor]]:
    """Return functions that replace a saved weight by its name, and compute it again."""
    parts = {name: (items.original, list(items)) for name, items in module.parametrizations.items()}
    names = {getattr(module, name).untyped_storage().data_ptr(): name for name in parts}
    recomputed: dict[str, Tensor] = {}

    def pack(tensor: Tensor) -> Any:
        name = names.get(tensor.untyped_storage().data_ptr())
        if name is None:
            return tensor
        return name, tensor.shape, tensor.stride(), tensor.storage_offset()

    def unpack(saved: Any) -> Tensor:
        if isinstance(saved, Tensor):
            return saved
        name, *view = saved
        if name not in recomputed:
            weight, functions = parts[name]
            with torch.no_grad():
                for function in functions:
                    weight = function(weight)
            recomputed[name] = weight
        return recomputed[name].as_strided(*view)

    return pack, unpack


def dequantize_experts(model: nn.Module, dtype: torch.dtype | None) -> None:
    """Replace quantized experts by plain parameters with their numbers.

    Args:
        model: of transformers.
        dtype: of the parameters; ``None`` keeps the one in which the experts compute.
    """
    for module in _quantized(model):
        names = [name for name, _ in fused_weights(module)]
        _replace_parametrized(module, {name: getattr(module, name).to(dtype) for name in names})


def _quantized(model: nn.Module) -> list[Any]:
    return [
        module for module in model.modules() if parametrize.is_parametrized(module) and is_fused(module)
    ]


def _replace_parametrized(module: Any, weights: Mapping[str, Tensor]) -> Any:
    """Register frozen parameters in place of parametrized weights. Returns the parametrizations."""
    parts = module._modules.pop("parametrizations")
    module.__class__ = type(module).__bases__[0]
    for name, weight in weights.items():
        module.register_parameter(name, nn.Parameter(weight, requires_grad=False))
    return parts


@contextmanager
def plain_experts(model: nn.Module) -> Iterator[None]:
    """Show quantized experts as plain parameters, which hold no numbers.

    peft attaches adapters to plain parameters in the order of the module, and to others in alphabetical order. Since the
    order is part of the names of saved weights, adapters of a quantized and of a 16-bit base would not fit each other.
    """
    quantized = [
        module for module in model.modules() if parametrize.is_parametrized(module) and is_fused(module)
    ]
    hidden: list[tuple[Any, Any, ModuleClass]] = []
    for module in quantized:
        weights = list(fused_weights(module))
        parts: Any = module._modules.pop("parametrizations")
        hidden.append((module, parts, type(module)))
        module.__class__ = type(module).__bases__[0]
        for name, shape in weights:
            state = quant_state(parts[name].original)
            empty = torch.empty(1, dtype=state.dtype, device=parts[name].original.device)
            module.register_parameter(name, nn.Parameter(empty.expand(shape), requires_grad=False))
    try:
        yield
    finally:
        for module, parts, original in hidden:
            for name in parts:
                del module._parameters[name]
            module.__class__ = original
            module._modules["parametrizations"] = parts
