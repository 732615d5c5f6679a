"""Initialization of LoRA from the weights of the base: PiSSA and OLoRA.

Both decompose a weight, ``W = R + s · B₀ A₀``, freeze ``R``, and train ``B A`` from ``B₀ A₀``. Implemented that way,
the base in memory differs from the base on disk: a saved adapter does not fit it, ``R`` is rounded to 16 bits, and
disabling the adapter does not restore the original model. Here the base stays unchanged, and the same function is
computed as ``W + s · (B A − B₀ A₀)``: one LoRA of twice the rank, with ``[A; A₀]`` and ``[B, −B₀]``, whose second
halves are frozen. peft converts PiSSA to the same form when it saves an adapter for the original base.
"""

from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear, LoraLayer
from torch import Tensor, nn

from xft.errors import ConfigError
from xft.models.model_options import model_options
from xft.models.param_shapes import is_sharded
from xft.models.sharded_reading import full_weights_of

ADAPTER = "default"


def init_lora_from_weights(model: PeftModel, method: str, rank: int) -> None:
    """Initialize a new adapter from the weights of its base.

    Args:
        model: with an untrained adapter of twice ``rank``.
        method: ``pissa`` (the largest singular values and their vectors), ``pissa_niter_N`` (an approximation by
            N iterations of a randomized SVD), or ``olora`` (the first columns of Q and rows of R).
        rank: of the trainable half.

    Raises:
        ConfigError: a layer cannot be decomposed.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            with full_weights_of(layer.get_base_layer()):
                _check_layer(layer, name, method, rank)
                _init_layer(layer, method, rank)
    model_options(model).half_frozen_adapter = True


def half_frozen_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the LoRA weights whose second half is frozen."""
    if not model_options(model).half_frozen_adapter:
        return []
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    return [
        weight for layer in layers for weight in (*layer.lora_A.parameters(), *layer.lora_B.parameters())
    ]


def num_frozen_elements(model: nn.Module) -> int:
    """Return the number of frozen elements in LoRA weights that require a gradient."""
    return sum(weight.numel() // 2 for weight in half_frozen_parameters(model))


def _check_layer(layer: LoraLayer, name: str, method: str, rank: int) -> None:
    base = layer.get_base_layer()
    if not isinstance(layer, Linear):
        raise ConfigError(
            f"adapter.init_lora_weights: {method!r} decomposes linear layers, and {name} is a {type(base).__name__}; "
            "set other target_modules, or init_lora_weights='default'",
            key="adapter.init_lora_weights",
            got=method,
        )
    if is_sharded(base.weight):
        raise ConfigError(
            f"adapter.init_lora_weights: {method!r} needs full weights, and ZeRO-3 shards them while they are read; "
            "use --deepspeed zero2, or set init_lora_weights='default'",
            key="adapter.init_lora_weights",
            got=method,
        )
    if rank > min(base.weight.shape):
        shape = " x ".join(map(str, base.weight.shape))
        raise ConfigError(
            key="adapter.r",
            got=rank,
            expected=f"at most {min(base.weight.shape)} with init_lora_weights={method!r}, as {name} is {shape}",
        )


def _init_layer(layer: Any, method: str, rank: int) -> None:
    weight = layer.get_base_layer().weight
    original = weight.data
    # peft reads the rank here, and writes the remainder R into the base.
    layer.r[ADAPTER] = rank
    weight.data = original.clone()
    try:
        with torch.no_grad():
            if method == "olora":
                layer.olora_init(ADAPTER)
            else:
                layer.pissa_init(ADAPTER, method)
    finally:
        weight.data = original
        layer.r[ADAPTER] = 2 * rank
    a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    a.data = torch.cat([a.data, a.data], dim=0)
    b.data = torch.cat([b.data, -b.data], dim=1)
    _freeze_half(a, rank, dim=0)
    _freeze_half(b, rank, dim=1)


def _freeze_half(weight: nn.Parameter, rank: int, dim: int) -> None:
    """Zero the gradient of the second half of a weight."""

    def keep_first_half(gradient: Tensor) -> Tensor:
        first = gradient.narrow(dim, 0, rank)
        return torch.cat([first, torch.zeros_like(first)], dim=dim)

    weight.register_hook(keep_first_half)
