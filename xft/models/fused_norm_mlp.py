"""RMSNorm and gated MLP modules of transformers whose training step is one operation.

A module gets a subclass of its own class: names, weights and files stay the same, and no class of transformers is
changed. Class names do not decide whether a module computes the formula of the kernel. Each class is tested with
random numbers: its forward pass takes one argument, and gives the same bits. In evaluation the original forward pass
runs.
"""

from collections.abc import Callable
from functools import cache, partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from xft.kernels import rms_norm, rms_norm_eager, silu_mul, silu_mul_eager
from xft.models.param_shapes import is_sharded
from xft.models.sharded_reading import full_copy

ModuleClass = Any
"""A subclass of ``nn.Module`` that is known only at run time."""


def fuse_modules(model: nn.Module) -> None:
    """Replace the training step of matching modules by kernels."""
    norm_eps: dict[tuple[Any, ...], float | None] = {}
    gated: dict[tuple[Any, ...], bool] = {}
    for module in model.modules():
        if not _has_one_argument(module) or any(map(_is_empty, module.parameters())):
            continue
        if _is_vector_norm(module):
            key = _signature(module)
            if key not in norm_eps:
                norm_eps[key] = _measured_eps(full_copy(module))
            if (eps := norm_eps[key]) is not None:
                original: ModuleClass = type(module)
                module.__class__ = _fused_norm(original, eps)
        elif _is_gated_mlp(module):
            key = _signature(module)
            if key not in gated:
                width: Any = module.gate_proj.in_features  # type: ignore[union-attr]
                gated[key] = _is_bitwise_equal(full_copy(module), width, _reference_mlp)
            if gated[key]:
                original = type(module)
                module.__class__ = _fused_mlp(original)


def _is_empty(param: Tensor) -> bool:
    """Return whether a parameter has no values before training, as under ZeRO-3."""
    return is_sharded(param) and not isinstance(param, DTensor)


def _has_one_argument(module: nn.Module) -> bool:
    """Return whether the input is all that the forward pass takes: a gated norm, for one, takes a gate too."""
    return type(module).forward is not nn.Module.forward and len(signature(module.forward).parameters) == 1


def _signature(module: nn.Module) -> tuple[Any, ...]:
    """Return what decides the formula of a module, which is tested once: classes and the options it stores.

    Layers of one class may differ in an option, as the sparsity of Gemma 3n does.
    """
    options = tuple(
        sorted(
            (name, value) for name, value in vars(module).items() if type(value) in (bool, int, float, str)
        )
    )
    return (type(module), *(type(child) for child in module.children()), *options)


def _is_vector_norm(module: nn.Module) -> bool:
    """Return whether a module has a vector of weights, a float that may be its epsilon, and nothing else."""
    params = dict(module.named_parameters())
    return list(params) == ["weight"] and params["weight"].ndim == 1 and bool(_floats(module))


def _floats(module: nn.Module) -> list[float]:
    return sorted({value for value in vars(module).values() if type(value) is float})


def _is_gated_mlp(module: nn.Module) -> bool:
    children = dict(module.named_children())
    names = {"gate_proj", "up_proj", "down_proj", "act_fn"}
    return names <= children.keys() and isinstance(children["gate_proj"], nn.Linear)


def _measured_eps(module: nn.Module) -> float | None:
    """Return the epsilon with which a module computes RMSNorm bit for bit; ``None`` if there is none."""
    width = len(next(module.parameters()))
    candidates = (
        eps for eps in _floats(module) if _is_bitwise_equal(module, width, partial(_reference_norm, eps))
    )
    return next(candidates, None)


def _reference_norm(eps: float, module: Any, x: Tensor) -> Tensor:
    return rms_norm_eager(x, module.weight, eps)


def _reference_mlp(module: Any, x: Tensor) -> Tensor:
    result: Tensor = module.down_proj(silu_mul_eager(module.gate_proj(x), module.up_proj(x)))
    return result


def _is_bitwise_equal(module: nn.Module, width: int, reference: Callable[[Any, Tensor], Tensor]) -> bool:
    """Compare a newly loaded module, as it computes in training, with the reference formula on random numbers."""
    weight = next(module.parameters())
    if weight.device.type == "meta":
        return False
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float32
    x = torch.randn(1, 3, width, generator=torch.Generator().manual_seed(0))
    x = (x * torch.tensor([[1], [1e-3], [8]])).to(weight.device, dtype)  # The small one depends on epsilon.
    training = module.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output, expected = module.train()(x), reference(module, x)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return False  # A module with other inputs than a tensor of hidden states.
    finally:
        module.train(training)
    return isinstance(output, Tensor) and torch.equal(output, expected)


def _can_fuse(x: Tensor, *weights: Tensor) -> bool:
    """Return whether gradients are enabled, all dtypes are equal, and no weight is sharded.

    ``torch.compile`` fuses the operations of transformers itself.
    """
    if torch.compiler.is_compiling():
        return False
    sharded = any(is_sharded(weight) for weight in weights)
    same_dtype = all(weight.dtype == x.dtype for weight in weights)
    autocast = torch.is_autocast_enabled(x.device.type)
    return torch.is_grad_enabled() and same_dtype and not sharded and not autocast


@cache
def _fused_norm(original: ModuleClass, eps: float) -> ModuleClass:
    """Make a subclass of a class that computes RMSNorm with an epsilon."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        if not self.training or not _can_fuse(hidden_states, self.weight):
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
