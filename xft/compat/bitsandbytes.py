"""bitsandbytes, with 4-bit weights that have the right values on a CPU. Importing it imports bitsandbytes.

Weights are quantized in blocks of 64 elements that cross rows. For CPUs with AVX512, bitsandbytes 0.50 takes the constants
of the wrong blocks if rows are multiples of 16 and not of 64 elements wide, such as 80 or 160: values differ by as much as
they are large. The same kernel is right for a weight as one vector, which replaces the rows here.
"""

import warnings
from collections.abc import Sequence
from math import prod
from typing import Any

import bitsandbytes
import torch
from torch import Tensor

__all__ = ["bitsandbytes"]

_NAME = "bitsandbytes::dequantize_4bit"
_KEY = "CPU"


def _dequantize_as_vector(library: torch.library.Library) -> None:
    kernel: Any = torch.library.get_kernel(_NAME, _KEY)

    def dequantize(
        keys: Any,
        packed: Tensor,
        absmax: Tensor,
        blocksize: int,
        quant_type: str,
        shape: Sequence[int],
        dtype: torch.dtype,
    ) -> Tensor:
        values: Tensor = kernel.call_boxed(
            keys, packed, absmax, blocksize, quant_type, [prod(shape)], dtype
        )
        return values.view(shape)

    with warnings.catch_warnings(action="ignore"):  # that a kernel is replaced
        library.impl(_NAME.partition("::")[2], dequantize, _KEY, with_keyset=True, allow_override=True)


_library = torch.library.Library("bitsandbytes", "IMPL")
"""Its operators exist as long as this object."""
if torch._C._dispatch_has_kernel_for_dispatch_key(_NAME, _KEY):
    _dequantize_as_vector(_library)
