"""The fused training step of a LoRA layer, and the conditions for its use."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from xft.kernels import lora_linear
from xft.models.param_shapes import is_sharded


def fused_lora_forward(layer: LoraLayer, name: str, x: Tensor, weight: Callable[[], Tensor]) -> Tensor:
    """Compute a LoRA layer as one operation.

    Args:
        layer: of peft.
        name: of the adapter.
        x: ``(..., in)``.
        weight: returns the frozen weight, ``(out, in)`` in the dtype of ``x``.

    Returns:
        ``(..., out)``.
    """
    base, dropout = layer.get_base_layer(), layer.lora_dropout[name]
    bias: Tensor | None = base.bias
    return lora_linear(
        x,
        weight,
        None if bias is None else bias.to(x.dtype),
        layer.lora_A[name].weight,
        layer.lora_B[name].weight,
        layer.scaling[name],
        None if isinstance(dropout, nn.Identity) else dropout(x),
    )


@contextmanager
def training_forward(model: nn.Module) -> Iterator[None]:
    """Compute adapters in evaluation as in training, but without dropout.

    peft computes an adapter in the type of its weights, the fused operation in the type of the activations. The sampler of
    reinforcement learning must compute the function that is trained.
    """
    layers = [module for module in model.modules() if isinstance(module, LoraLayer) and not module.training]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def sole_active_adapter(layer: LoraLayer, x: Tensor) -> str | None:
    """Return the adapter of a layer in training if it is the only one and computes plain LoRA.

    ``None`` means that peft must compute the layer: in evaluation, with merged, disabled or several adapters,
    with sharded or trainable base weights, and under autocast.
    """
    base = layer.get_base_layer()
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    if not layer.training or layer.disable_adapters or layer.merged or len(names) != 1:
        return None
    name: str = names[0]
    weights: list[Tensor] = [base.weight, layer.lora_A[name].weight, layer.lora_B[name].weight]
    # Hooks of the modules gather sharded weights, and the fused operation does not call the modules.
    sharded = any(is_sharded(weight) for weight in weights)
    trainable_base = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
    autocast = torch.is_autocast_enabled(x.device.type)
    if sharded or trainable_base or autocast or name in layer.lora_variant or layer.lora_bias[name]:
        return None
    return name
