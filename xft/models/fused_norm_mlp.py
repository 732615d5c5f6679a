"""RMSNorm and gated MLP modules of transformers whose training step is one operation.

A module gets a subclass of its own class: names, weights and files stay the same, and no class of transformers is
changed. Class names do not decide whether a module computes the formula of the kernel. Each class is tested with
random numbers, and must give the same bits. In evaluation the original forward pass runs.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from xft.kernels import rms_norm, rms_norm_eager, silu_mul, silu_mul_eager
from xft.models.families import rms_norm_eps
from xft.models.param_shapes import is_sharded

ModuleClass = Any
"""A subclass of ``nn.Module`` that is known only at run time."""


def fuse_modules(model: nn.Module) -> None:
    """Replace the training step of matching modules by kernels."""
    matches: dict[tuple[Any, type], bool] = {}
    for module in model.modules():
        if _is_norm(module):
            make, reference = _fused_norm, _reference_norm
        elif _is_gated_mlp(module):
            make, reference = _fused_mlp, _reference_mlp
        else:
            continue
        if any(map(is_sharded, module.parameters())):
            continue
        key: tuple[Any, type] = (type(module), type(dict(module.named_children()).get("act_fn")))
        if key not in matches:
            matches[key] = _is_bitwise_equal(module, reference)
        if matches[key]:
            module.__class__ = make(key[0])


def _is_norm(module: nn.Module) -> bool:
    """Return whether a module looks like an RMSNorm with a vector of weights."""
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return rms_norm_eps(module) is not None and weight is not None and weight.ndim == 1


def _is_gated_mlp(module: nn.Module) -> bool:
    return {"gate_proj", "up_proj", "down_proj", "act_fn"} <= {name for name, _ in module.named_children()}


def _reference_norm(module: Any, x: Tensor) -> Tensor:
    eps = rms_norm_eps(module)
    assert eps is not None
    return rms_norm_eager(x, module.weight, eps)


def _reference_mlp(module: Any, x: Tensor) -> Tensor:
    result: Tensor = module.down_proj(silu_mul_eager(module.gate_proj(x), module.up_proj(x)))
    return result


def _is_bitwise_equal(module: Any, reference: Callable[[Any, Tensor], Tensor]) -> bool:
    """Compare a newly loaded module with the reference formula on random numbers."""
    if not _is_norm(module) and not isinstance(module.gate_proj, nn.Linear):
        return False
    weight = module.weight if _is_norm(module) else module.gate_proj.weight
    width = len(weight) if _is_norm(module) else module.gate_proj.in_features
    if weight.device.type == "meta":
        return False
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float32
    x = torch.randn(1, 3, width, generator=torch.Generator().manual_seed(0)).to(weight.device, dtype)
    with torch.no_grad():
        output, expected = module(x), reference(module, x)
    return isinstance(output, Tensor) and torch.equal(output, expected)


def _can_fuse(x: Tensor, *weights: Tensor) -> bool:
    """Return whether gradients are enabled, all dtypes are equal, and no weight is sharded."""
    sharded = any(is_sharded(weight) for weight in weights)
    same_dtype = all(weight.dtype == x.dtype for weight in weights)
    autocast = torch.is_autocast_enabled(x.device.type)
    return torch.is_grad_enabled() and same_dtype and not sharded and not autocast


@cache
def _fused_norm(original: ModuleClass) -> ModuleClass:
    """Make a subclass of an RMSNorm class."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        eps = rms_norm_eps(self)
        if eps is None or not self.training or not _can_fuse(hidden_states, self.weight):
            result: Tensor = original.forward(self, hidden_states)
            return result
        return rms_norm(hidden_states, self.weight, eps)

    return type(f"Fused{original.__name__}", (original,), {"forward": forward, "__module__": __name__})


@cache
def _fused_mlp(original: ModuleClass) -> ModuleClass:
    """Make a subclass of a gated MLP class."""

    def forward(self: Any, x: Tensor) -> Tensor:
        result: Tensor
        if not self.training or not _can_fuse(x):
            result = original.forward(self, x)
        else:
            result = self.down_proj(silu_mul(self.gate_proj(x), self.up_proj(x)))
        return result

    return type(f"Fused{original.__name__}", (original,), {"forward": forward, "__module__": __name__})
