"""Quantize weights to NF4 as bitsandbytes does, in pieces of bounded memory, or rows of a weight on several ranks.

Importing it imports bitsandbytes.
"""

import math
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from transformers import BitsAndBytesConfig

from xft.compat.bitsandbytes import bitsandbytes
from xft.models.sharded_reading import make_sharded

PIECE = 2**20
"""Elements quantized in one call: bitsandbytes needs some 20 bytes per element on a CPU. A multiple of any block."""
_NESTED_BLOCK = 256


def pack(weight: Tensor, config: BitsAndBytesConfig) -> nn.Parameter:
    """Quantize a weight.

    Args:
        weight: of any shape.
        config: of the quantization.

    Returns:
        ``(bytes, 1)``, or as many elements of the storage dtype, with ``quant_state`` and the attributes of the
        parameters of bitsandbytes.
    """
    packed, state = _quantize(weight, config)
    return _parameter(packed, state, weight.shape, config)


def pack_rows(rows: Tensor, full: DTensor, config: BitsAndBytesConfig) -> nn.Parameter:
    """Quantize the rows of each rank, whole blocks, to the numbers that the full weight gives. Collective.

    Args:
        rows: of this rank, as many as those of any other.
        full: parameter that the rows belong to; it has no values.
        config: of the quantization.

    Returns:
        What ``pack`` returns, split by rows. The scales are full on each rank: 1/32 of the packed weight. Rows of another
        shape than the parameter has, which the loader reports, give NaN as scales.
    """
    mesh = full.device_mesh
    packed, state = _quantize(rows, config)
    expected = full.to_local()
    if rows.shape != expected.shape:
        # No error is raised: the loader would continue with the next weight on this rank alone.
        state.absmax = state.absmax.new_full((expected.numel() // state.blocksize,), math.nan)
    scales = state.absmax.new_empty(len(state.absmax) * mesh.size())
    distributed.all_gather([*scales.chunk(mesh.size())], state.absmax, mesh.get_group())
    state.absmax = scales
    stored = torch.Size((len(rows) * mesh.size(), *rows.shape[1:]))
    split = make_sharded(packed, mesh, torch.Size((len(packed) * mesh.size(), 1)))
    return _parameter(split, state, stored, config)


def _quantize(weight: Tensor, config: BitsAndBytesConfig) -> tuple[Tensor, Any]:
    """Return packed numbers, and their state with one 32-bit scale per block."""
    pieces = [
        bitsandbytes.functional.quantize_4bit(
            piece, quant_type=config.bnb_4bit_quant_type, quant_storage=config.bnb_4bit_quant_storage
        )
        for piece in weight.detach().flatten().split(PIECE)
    ]
    packed, states = zip(*pieces, strict=True)
    state: Any = states[0]
    state.absmax = torch.cat([state.absmax for state in states])
    return torch.cat(packed), state


def _parameter(packed: Tensor, state: Any, shape: torch.Size, config: BitsAndBytesConfig) -> nn.Parameter:
    """Return a frozen parameter; its scales are quantized too if the config says so."""
    if config.bnb_4bit_use_double_quant:
        state.offset = state.absmax.mean()
        state.absmax, state.state2 = bitsandbytes.functional.quantize_blockwise(
            state.absmax - state.offset, blocksize=_NESTED_BLOCK
        )
        state.nested = True
    state.shape = shape
    param: Any = nn.Parameter(packed, requires_grad=False)
    param.quant_state, param.quant_type = state, state.quant_type
    param.compress_statistics = config.bnb_4bit_use_double_quant
    param.quant_storage, param.blocksize = packed.dtype, state.blocksize
    quantized: nn.Parameter = param
    return quantized
