"""Activation checkpointing of some layers, and the activation memory of each layer.

A checkpointed layer saves only its input and is recomputed in the backward pass (Chen et al. 2016,
https://arxiv.org/abs/1604.06174). The input can be kept in host memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from xft.models.forward_inputs import forward_inputs
from xft.types import Batch


@dataclass(frozen=True)
class ActivationMemory:
    """Activation memory that a forward pass saves for backward.

    Attributes:
        tokens: number of tokens in the pass, padding included.
        layers: bytes saved by each layer, in order.
        input: bytes of the input of a layer.
    """

    tokens: int
    layers: list[int]
    input: int

    def with_checkpointing(self, tokens: int, count: int) -> int:
        """Return the peak bytes for a number of tokens with the first ``count`` layers checkpointed.

        The peak is the saved activations of all layers, and one layer while it is recomputed.
        """
        recomputed, saved = self.layers[:count], self.layers[count:]
        total = sum(saved) + count * self.input + max(recomputed, default=0)
        return -(-total * tokens // self.tokens)


def checkpointed_layers(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """Return the layers of a model that support checkpointing, in order."""
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def set_activation_checkpointing(base: PreTrainedModel, count: int) -> None:
    """Checkpoint the first layers of a model, and no others.

    Why the first: the activations of later layers are freed by the time the first layers are recomputed.

    Args:
        base: of transformers, without its adapter.
        count: number of layers.
    """
    if count == 0:
        base.activation_checkpointing_disable()
        return
    base.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    for layer in checkpointed_layers(base)[count:]:
        layer.gradient_checkpointing = False


def checkpoint_all_layers(base: PreTrainedModel, offload: bool = False) -> None:
    """Checkpoint all layers of a model.

    Args:
        base: of transformers, without its adapter.
        offload: keep the inputs of the layers in host memory until the backward pass.
    """
    base.activation_checkpointing_enable(
        activation_checkpointing_kwargs={"use_reentrant": False}, offload=offload
    )


def measure_activation_memory(model: nn.Module, base: PreTrainedModel, batch: Batch) -> ActivationMemory:
    """Run a forward pass as in training and measure the activations that each layer saves.

    Activations are freed at the end of each layer, and the random state is restored. Layers that ``torch.compile``
    compiles in training run uncompiled here, and save a little more.

    Args:
        model: of transformers, with or without an adapter, without checkpointed layers.
        base: the model without its adapter.
        batch: at least one token.
    """
    layers: list[nn.Module] = [*checkpointed_layers(base)]
    weights = {tensor.untyped_storage().data_ptr() for tensor in chain(model.parameters(), model.buffers())}
    saved = dict.fromkeys(layers, 0)
    inputs = dict.fromkeys(layers, 0)
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage

    def before(layer: nn.Module, args: tuple[Any, ...]) -> None:
        storages.clear()
        inputs[layer] = args[0].nbytes if args else 0

    def after(layer: nn.Module, *_: object) -> None:
        saved[layer] = sum(storage.nbytes() for storage in storages.values())
        storages.clear()

    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    hooks += [layer.register_forward_hook(after) for layer in layers]
    device = batch.input_ids.device
    try:
        with (
            train_mode(model, training=True),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            torch.enable_grad(),
            torch.compiler.set_stance("force_eager"),
            saved_tensors_hooks(pack, _no_backward),
        ):
            base.base_model(**forward_inputs(model, batch, full_sequence=True))
    finally:
        for hook in hooks:
            hook.remove()
    return ActivationMemory(batch.input_ids.numel(), list(saved.values()), max(inputs.values(), default=0))


def _no_backward(_: object) -> Tensor:
    raise RuntimeError("activations were discarded: a measuring pass has no backward pass")


@contextmanager
def train_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Set all modules to training or evaluation mode; restore the mode of each module at the end."""
    changed = [module for module in model.modules() if module.training is not training]
    model.train(training)
    try:
        yield
    finally:
        for module in changed:
            module.training = not training
