"""Full sizes of parameters, including parameters that are sharded over ranks.

Under ZeRO-3 a parameter is an empty tensor most of the time; DeepSpeed records its full shape in attributes. Under FSDP2
it is a DTensor between uses.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

SummonFullParams = Callable[[list[nn.Parameter]], AbstractContextManager[Sequence[Tensor]]]
"""Returns a context in which sharded parameters are full on every rank: ``Strategy.summon_full_params``."""

_QUANTIZATION = ("quant_state", "compress_statistics", "quant_type", "quant_storage", "blocksize")
"""Attributes of 4-bit weights that bitsandbytes and peft read."""


def is_sharded(weight: Tensor) -> bool:
    """Return whether a rank holds only a part of a weight (ZeRO-3, or a DTensor of FSDP2)."""
    return hasattr(weight, "ds_id") or isinstance(weight, DTensor)


def full_shape(weight: nn.Parameter) -> torch.Size:
    """Return the full shape of a parameter, also if it is sharded."""
    shape: torch.Size = getattr(weight, "ds_shape", weight.shape)
    return shape


def local_shard(weight: Tensor) -> Tensor:
    """Return the elements of a parameter, or of its gradient, that this rank stores."""
    shard: Tensor = getattr(weight, "ds_tensor", weight)
    return shard.to_local() if isinstance(shard, DTensor) else shard


def quant_state(weight: object) -> Any:
    """Return the quantization state of a 4-bit weight of bitsandbytes, ``None`` for another weight."""
    return getattr(weight, "quant_state", None)


def keep_quantization(source: Tensor, target: Tensor) -> None:
    """Copy what a 4-bit weight of bitsandbytes carries besides its values to another tensor.

    Args:
        source: any weight.
        target: receives the attributes of ``source``, if it is quantized.
    """
    target.__dict__ |= {name: value for name, value in vars(source).items() if name in _QUANTIZATION}


def full_nbytes(weight: nn.Parameter) -> int:
    """Return the size of the full parameter in bytes."""
    return full_shape(weight).numel() * weight.element_size()


def original_shape(weight: nn.Parameter) -> torch.Size:
    """Return the shape of a parameter before sharding and quantization.

    A 4-bit weight packs two elements per byte; its quantization state records the original shape.
    """
    state = quant_state(weight)
    shape: torch.Size = state.shape if state is not None else full_shape(weight)
    return shape


def num_params(weight: nn.Parameter) -> int:
    """Return the number of elements of the parameter before sharding and quantization."""
    return original_shape(weight).numel()
