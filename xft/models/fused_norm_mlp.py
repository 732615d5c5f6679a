"""Norms and inner layers of transformers' models, with their training step as one operation.

A module is given a subclass of its own class, so that names, weights and files stay as they are and no class
of transformers' is changed. Whether a class computes what the kernel does is not read from its name: it
is asked, with random numbers, and must give the same bits. In evaluation a module is what it was.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from xft.kernels import rms_norm, rms_norm_reference, silu_gate, silu_gate_reference


def fuse_modules(model: nn.Module) -> None:
    """Let the modules of a model that fit be computed with kernels in training."""
    fits: dict[Any, bool] = {}
    for module in model.modules():
        kind: Any = type(module)
        fused = _norm(kind) if _is_norm(module) else _inner(kind) if _is_inner(module) else None
        if fused is None or any(hasattr(each, "ds_id") for each in module.parameters()):
            continue
        asked = kind, type(getattr(module, "act_fn", None))
        if asked not in fits:
            fits[asked] = _same_bits(module, _plain_norm if _is_norm(module) else _plain_inner)
        if fits[asked]:
            module.__class__ = fused


def _is_norm(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return (
        "RMSNorm" in type(module).__name__
        and isinstance(weight, Tensor)
        and weight.ndim == 1
        and isinstance(_eps(module), float)
    )


def _is_inner(module: Any) -> bool:
    names = ("gate_proj", "up_proj", "down_proj")
    return all(isinstance(getattr(module, each, None), nn.Module) for each in names) and hasattr(
        module, "act_fn"
    )


def _eps(module: Any) -> float | None:
    return getattr(module, "variance_epsilon", getattr(module, "eps", None))


def _plain_norm(module: Any, x: Tensor) -> Tensor:
    eps = _eps(module)
    assert eps is not None
    return rms_norm_reference(x, module.weight, eps)


def _plain_inner(module: Any, x: Tensor) -> Tensor:
    result: Tensor = module.down_proj(silu_gate_reference(module.gate_proj(x), module.up_proj(x)))
    return result


def _same_bits(module: Any, plain: Any) -> bool:
    """Whether a module of a model that was just loaded computes the plain formula."""
    weight = module.weight if _is_norm(module) else module.gate_proj.weight
    width = len(weight) if _is_norm(module) else getattr(module.gate_proj, "in_features", None)
    if width is None or weight.device.type == "meta":
        return False
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float32
    x = torch.randn(1, 3, width, generator=torch.Generator().manual_seed(0)).to(weight.device, dtype)
    with torch.no_grad():
        found, expected = module(x), plain(module, x)
    return isinstance(found, Tensor) and torch.equal(found, expected)


def _trains(x: Tensor, *weights: Tensor) -> bool:
    """Whether a gradient is wanted, and all is of one type and whole on this rank."""
    sharded = any(hasattr(each, "ds_id") or hasattr(each, "device_mesh") for each in weights)
    same = all(each.dtype == x.dtype for each in weights)
    return torch.is_grad_enabled() and same and not sharded and not torch.is_autocast_enabled(x.device.type)


@cache
def _norm(kind: Any) -> Any:
    """A subclass of a class of norms."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        if not self.training or not _trains(hidden_states, self.weight):
            found: Tensor = kind.forward(self, hidden_states)
            return found
        eps = _eps(self)
        assert eps is not None
        return rms_norm(hidden_states, self.weight, eps)

    return type(f"Fused{kind.__name__}", (kind,), {"forward": forward, "__module__": __name__})


@cache
def _inner(kind: Any) -> Any:
    """A subclass of a class of gated inner layers."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training or not _trains(x):
            found: Tensor = kind.forward(self, x)
            return found
        result: Tensor = self.down_proj(silu_gate(self.gate_proj(x), self.up_proj(x)))
        return result

    return type(f"Fused{kind.__name__}", (kind,), {"forward": forward, "__module__": __name__})
