"""What a layer keeps for its backward pass, and which layers make it again there instead.

Gradient checkpointing (Chen et al. 2016, https://arxiv.org/abs/1604.06174): of a layer only its input is kept, and the
layer is computed once more when its gradient is wanted. It can be had of some layers and not of others.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers.modeling_layers import GradientCheckpointingLayer

from xft.models.forward_inputs import forward_inputs
from xft.types import Batch


@dataclass(frozen=True)
class ActivationMemory:
    """What a forward pass keeps.

    Attributes:
        tokens: that went through, padding included.
        layers: bytes that each layer keeps, the first layer first.
        input: bytes of what goes into a layer.
    """

    tokens: int
    layers: list[int]
    input: int

    def with_checkpointing(self, tokens: int, count: int) -> int:
        """Bytes that so many tokens need at most, where the first ``count`` layers are made again: what all keep, and
        one layer while it is made again."""
        again, kept = self.layers[:count], self.layers[count:]
        total = sum(kept) + count * self.input + max(again, default=0)
        return -(-total * tokens // self.tokens)


def checkpointed_layers(model: nn.Module) -> list[Any]:
    """The layers of a model that can be made again, in their order."""
    return [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]


def set_activation_checkpointing(base: Any, count: int) -> None:
    """Let the first layers be computed again in the backward pass, and no others.

    The first, for when the last gradients are taken what the later layers kept is gone.

    Args:
        base: a model of transformers, without its adapter.
        count: how many layers.
    """
    if count == 0:
        base.gradient_checkpointing_disable()
        return
    base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for layer in checkpointed_layers(base)[count:]:
        layer.gradient_checkpointing = False


def measure_activation_memory(model: nn.Module, base: Any, batch: Batch) -> ActivationMemory:
    """Send a batch through the layers as in training, and count what each of them keeps.

    Nothing is kept beyond the layer that it belongs to, and no random number is used up.

    Args:
        model: of transformers, with or without an adapter, of whose layers none is made again.
        base: the model without its adapter.
        batch: with some tokens.
    """
    layers = checkpointed_layers(base)
    held = {each.untyped_storage().data_ptr() for each in chain(model.parameters(), model.buffers())}
    found = dict.fromkeys(layers, 0)
    inputs = dict.fromkeys(layers, 0)
    inside: dict[int, Any] = {}

    def pack(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            inside[storage.data_ptr()] = storage

    def begin(layer: nn.Module, given: tuple[Any, ...]) -> None:
        inside.clear()
        inputs[layer] = given[0].nbytes if given else 0

    def end(layer: nn.Module, *_: Any) -> None:
        found[layer] = sum(each.nbytes() for each in inside.values())
        inside.clear()

    hooks = [hook for each in layers for hook in _hooked(each, begin, end)]
    device = batch.input_ids.device
    try:
        with (
            train_mode(model, training=True),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.enable_grad(),
            saved_tensors_hooks(pack, _unpack),
        ):
            base.base_model(**forward_inputs(model, batch, full_sequence=True))
    finally:
        for each in hooks:
            each.remove()
    return ActivationMemory(batch.input_ids.numel(), list(found.values()), max(inputs.values(), default=0))


def _hooked(layer: nn.Module, begin: Any, end: Any) -> list[Any]:
    return [layer.register_forward_pre_hook(begin), layer.register_forward_hook(end)]


def _unpack(_: Any) -> Tensor:
    raise RuntimeError("nothing was kept, so there is no backward pass")


@contextmanager
def train_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """With every module in training, or in evaluation; afterwards each is as it was."""
    modules = [each for each in model.modules() if each.training is not training]
    model.train(training)
    try:
        yield
    finally:
        for each in modules:
            each.training = not training
