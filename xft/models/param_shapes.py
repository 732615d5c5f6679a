"""Full sizes of parameters, including parameters that are sharded over ranks.

Under ZeRO-3 a parameter is an empty tensor most of the time; DeepSpeed records its full shape in attributes.
"""

import torch
from torch import Tensor, nn


def is_sharded(weight: Tensor) -> bool:
    """Return whether a rank holds only a part of a weight (ZeRO-3, or a DTensor of FSDP2)."""
    return hasattr(weight, "ds_id") or hasattr(weight, "device_mesh")


def full_shape(weight: nn.Parameter) -> torch.Size:
    """Return the full shape of a parameter, also if it is sharded."""
    shape: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return shape


def full_nbytes(weight: nn.Parameter) -> int:
    """Return the size of the full parameter in bytes."""
    return full_shape(weight).numel() * weight.element_size()


def num_params(weight: nn.Parameter) -> int:
    """Return the number of elements of the full parameter.

    A 4-bit weight packs two elements per byte; its quantization state records the original shape.
    """
    state = getattr(weight, "quant_state", None)
    shape: torch.Size = state.shape if state is not None else full_shape(weight)
    return shape.numel()
