"""How large weights are, also those that no rank has as a whole.

Under ZeRO-3 a weight is an empty tensor for most of the time; what it is as a whole stands in
attributes that DeepSpeed gives it.
"""

from typing import Any

import torch
from torch import nn


def whole_shape(weight: nn.Parameter) -> torch.Size:
    """The shape of a weight, also where this rank has only a share of it."""
    shape: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return shape


def whole_bytes(weight: nn.Parameter) -> int:
    """The bytes that a weight takes as a whole."""
    return whole_shape(weight).numel() * weight.element_size()


def num_weights(weight: nn.Parameter) -> int:
    """How many numbers a weight stands for. A 4-bit weight is stored two to a byte; its quantisation
    state remembers the true size."""
    state: Any = getattr(weight, "quant_state", None)
    shape: torch.Size = state.shape if state is not None else whole_shape(weight)
    return shape.numel()
