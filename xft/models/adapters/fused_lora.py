"""peft's LoRA layers, with their training step as one operation.

:func:`fused_layer` is given to peft as the maker of layers for an adapter (``LoraConfig`` takes custom
modules), so nothing of peft's is changed: the layers are subclasses of its own, with its weights, names,
saving and merging. What they compute in training is :func:`xft.kernels.lora_linear`; in evaluation, and
wherever a layer is more than ``W x + s B A x``, it is peft's forward pass, so that what is validated is what
whoever loads the adapter computes.
"""

import sys
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as PlainLinear
from torch import Tensor, nn

from xft.kernels import lora_linear


class FusedLinear(PlainLinear):
    """A frozen ``nn.Linear`` with an adapter."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        base: Any = self.get_base_layer()
        name = None if args or kwargs else only_adapter(self, x)
        if name is None or base.weight.dtype != x.dtype:
            return super().forward(x, *args, **kwargs)
        return train_layer(self, name, x, lambda: base.weight)


def fused_layer(target: Any, adapter_name: str, config: LoraConfig, **kwargs: Any) -> nn.Module | None:
    """Make the layer for ``target``; ``None`` leaves that to peft."""
    base = target.get_base_layer() if hasattr(target, "get_base_layer") else target
    if config.use_dora or config.lora_bias:
        return None
    if type(base) is nn.Linear:
        return FusedLinear(target, adapter_name, config=config, **kwargs)
    # Whose layers these are has been imported, or there are none: it takes a second.
    quantised = sys.modules.get("bitsandbytes")
    if quantised is not None and type(base) is quantised.nn.Linear4bit:
        from xft.models.adapters.fused_lora_4bit import FusedLinear4bit

        return FusedLinear4bit(target, adapter_name, config=config, **kwargs)
    return None


def train_layer(layer: Any, name: str, x: Tensor, weight: Any) -> Tensor:
    """A training step of a layer as one operation.

    Args:
        layer: peft's.
        name: of its adapter.
        x: ``(..., in)``.
        weight: gives the frozen weight, ``(out, in)`` in the type of ``x``.
    """
    base, dropout = layer.get_base_layer(), layer.lora_dropout[name]
    return lora_linear(
        x,
        weight,
        None if base.bias is None else base.bias.to(x.dtype),
        layer.lora_A[name].weight,
        layer.lora_B[name].weight,
        layer.scaling[name],
        None if isinstance(dropout, nn.Identity) else dropout(x),
    )


def only_adapter(layer: Any, x: Tensor) -> str | None:
    """The adapter of a layer in training, where it is the plain one on a frozen base that is here."""
    base = layer.get_base_layer()
    names = [each for each in layer.active_adapters if each in layer.lora_A]
    if not layer.training or layer.disable_adapters or layer.merged or len(names) != 1:
        return None
    name: str = names[0]
    weights = [base.weight, layer.lora_A[name].weight, layer.lora_B[name].weight]
    # Sharded weights are put together by hooks of the modules that hold them, which are not called here.
    sharded = any(hasattr(each, "ds_id") or hasattr(each, "device_mesh") for each in weights)
    trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    mixed = torch.is_autocast_enabled(x.device.type)
    if sharded or trained or mixed or name in layer.lora_variant or layer.lora_bias[name]:
        return None
    return name
