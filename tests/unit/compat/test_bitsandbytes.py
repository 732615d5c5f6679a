"""Layers in NF4 compute with the values that were stored, for rows of any width."""

from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import Tensor

import xft.compat.bitsandbytes  # noqa: F401

ROWS = 6
WIDTHS = [16, 64, 72, 80, 96, 100, 160, 513]


def _values(packed: Tensor, state: Any) -> Tensor:
    """The stored values by hand: two codes in a byte, and one constant for each block."""
    codes = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=1).flatten().int()
    values = state.code[codes[: state.shape.numel()]]
    constants = state.absmax.repeat_interleave(state.blocksize)[: len(values)]
    return (values * constants).reshape(state.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", WIDTHS)
def test_layer_computes_with_the_stored_values(width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = Linear4bit(
        width, ROWS, bias=False, compute_dtype=dtype, compress_statistics=False, quant_type="nf4"
    )
    layer.weight = Params4bit(
        torch.randn(ROWS, width, dtype=dtype),
        requires_grad=False,
        compress_statistics=False,
        quant_type="nf4",
        module=layer,
    )
    layer = layer.to("cpu")
    expected = _values(layer.weight.data, layer.weight.quant_state).to(dtype)
    assert torch.equal(dequantize_4bit(layer.weight.data, layer.weight.quant_state), expected)
    x = torch.randn(5, width, dtype=dtype, requires_grad=True)
    output = layer(x)
    torch.testing.assert_close(output, x @ expected.T)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    torch.testing.assert_close(gradient, torch.ones_like(output) @ expected)


@pytest.mark.parametrize("width", WIDTHS)
def test_constants_that_are_quantized_too_give_the_values_of_one_vector(width: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(ROWS, width)
    packed, state = quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    flat_packed, flat = quantize_4bit(weight.flatten(), quant_type="nf4", compress_statistics=True)
    assert torch.equal(
        dequantize_4bit(packed, state).flatten(), dequantize_4bit(flat_packed, flat).flatten()
    )
    assert float((dequantize_4bit(packed, state) - weight).abs().max()) < 0.2 * float(weight.abs().max())
