"""Decoder layers whose training step is compiled by ``torch.compile``.

Each layer is compiled by itself: layers of one class share their code, and gradient checkpointing, FSDP2 and hooks stay
outside. The number of tokens is a symbol in the compiled code, so a batch of another length is not compiled again.
Attention over packed samples (:mod:`xft.models.attention`) runs between two compiled parts, since its loops follow
the lengths of the samples. In evaluation and generation the layers run uncompiled.
"""

from functools import cache

import torch
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.modeling_layers import GradientCheckpointingLayer

from xft.errors import ConfigError
from xft.models.activation_checkpointing import checkpointed_layers


def compile_layers(model: nn.Module, device: torch.device) -> None:
    """Compile the training step of the layers that support gradient checkpointing, at their first call.

    Args:
        model: of transformers, before or after an adapter is attached.
        device: device of the training.

    Raises:
        ConfigError: this machine cannot compile, as without a C++ compiler for a CPU; the model has no such layers; or
            ZeRO-3 gathers weights inside of the layers.
    """
    if is_deepspeed_zero3_enabled():
        raise ConfigError(
            key="model.torch_compile",
            got=True,
            expected="False with ZeRO-3, which gathers weights inside of the layers",
            fix="use --fsdp, which gathers them outside, or --deepspeed zero2",
        )
    layers = checkpointed_layers(model)
    if not layers:
        raise ConfigError(
            key="model.torch_compile",
            got=True,
            expected=f"False, since {type(model).__name__} has no layers that can be compiled separately",
        )
    if problem := compile_problem(device):
        raise ConfigError(
            key="model.torch_compile",
            got=True,
            expected=f"False, since torch cannot compile for this {device.type}: {problem}",
            fix="install a C++ compiler such as g++" if device.type == "cpu" else "",
        )
    for layer in layers:
        layer.__class__ = _compiled_class(type(layer))  # type: ignore[arg-type]  # a class is hashable


@cache
def compile_problem(device: torch.device) -> str:
    """Return why torch cannot compile for a device; empty if it can. Tried with a function of one operation."""
    try:
        torch.compile(_double)(torch.ones(8, device=device))
    except Exception as error:  # noqa: BLE001  Of dynamo, the code generator, the compiler or a missing library.
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return ""


def _double(x: torch.Tensor) -> torch.Tensor:
    return x + x


@cache
def _compiled_class(original: type[nn.Module]) -> type[GradientCheckpointingLayer]:
    """Make a subclass of a class of layers that is compiled in training."""
    compiled = torch.compile(original.forward, dynamic=True)

    def forward(self: nn.Module, *args: object, **kwargs: object) -> object:
        in_training = self.training and torch.is_grad_enabled()
        return (compiled if in_training else original.forward)(self, *args, **kwargs)

    return type(f"Compiled{original.__name__}", (original,), {"forward": forward, "__module__": __name__})
