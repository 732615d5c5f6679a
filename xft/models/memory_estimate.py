"""Estimate the memory that a training holds between steps, from the config of a model alone.

These are the parameters, gradients and optimizer state that the dry run reports. Activations, whose size depends on the
length of the rows, come in addition.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig
from transformers.initialization import no_init_weights

from xft.models.adapters.lora import LoRA
from xft.models.experts import fused_weights, is_fused

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in NF4 with double quantization: 4 bits, an 8-bit scale for 64 weights, and an fp32 scale for 256 of
these."""
ADAMW_STATES = 2
"""Numbers that AdamW keeps for a parameter, in its dtype."""


@dataclass(frozen=True)
class StateMemory:
    """Bytes between steps.

    Attributes:
        parameters: of all parameters.
        gradients: of trainable parameters.
        optimizer: state of AdamW.
        num_parameters: number of parameters of the base.
    """

    parameters: float
    gradients: float
    optimizer: float
    num_parameters: int

    @property
    def total(self) -> float:
        """Return the sum."""
        return self.parameters + self.gradients + self.optimizer


def estimate_state_memory(
    config: PretrainedConfig, adapter: LoRA | None, quantized: bool = False
) -> StateMemory:
    """Estimate the memory of a training that holds the whole model on one device.

    Args:
        config: transformers config of the model.
        adapter: the adapter, on a base in bf16; ``None`` trains all weights in fp32.
        quantized: hold the linear layers and the fused experts of the base in NF4, except for the head.
    """
    dtype = torch.float32 if adapter is None else torch.bfloat16
    with torch.device("meta"), no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        model.tie_weights()
        count = sum(parameter.numel() for parameter in model.parameters())
        frozen = _quantized_savings(model) if quantized else 0.0
        trained: nn.Module = model if adapter is None else adapter.apply(model, [], fused=False)
    sizes = [(parameter.nbytes, parameter.requires_grad) for parameter in trained.parameters()]
    gradients = float(sum(size for size, trainable in sizes if trainable))
    parameters = float(sum(size for size, _ in sizes)) - frozen
    return StateMemory(parameters, gradients, ADAMW_STATES * gradients, count)


def _quantized_savings(model: nn.Module) -> float:
    """Return the bytes that NF4 saves."""
    inner = model
    head = inner.get_output_embeddings()  # type: ignore[operator]
    weights = [
        layer.weight for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head
    ]
    for module in filter(is_fused, model.modules()):
        weights += [module.get_parameter(name) for name, _ in fused_weights(module)]
    return sum(weight.nbytes - weight.numel() * NF4_BYTES for weight in weights)
