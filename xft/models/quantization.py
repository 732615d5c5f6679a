"""How the frozen weights of a base are held."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from peft.import_utils import is_bnb_4bit_available, is_bnb_available
from transformers import BitsAndBytesConfig

from xft.registry import register
from xft.utils.system import blocked_imports


@register("quantization", "nf4")
class NF4:
    """4-bit NormalFloat weights of bitsandbytes, dequantized in each forward pass.

    Args:
        double_quant: quantize the quantization constants too.
        quant_storage: storage dtype of the packed weights. ZeRO-3 shards either; FSDP requires the dtype of the
            other weights.
    """

    bits = 4

    def __init__(
        self, double_quant: bool = True, quant_storage: Literal["uint8", "bfloat16"] = "uint8"
    ) -> None:
        self.double_quant = double_quant
        self.quant_storage = quant_storage

    def config(self, dtype: torch.dtype) -> BitsAndBytesConfig:
        """What transformers wants to hear. Products are taken in ``dtype``."""
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=self.double_quant,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=getattr(torch, self.quant_storage),
        )


@register("quantization", "int8")
class Int8:
    """8-bit weights of bitsandbytes (LLM.int8(), https://arxiv.org/abs/2208.07339)."""

    bits = 8

    def config(self, dtype: torch.dtype) -> BitsAndBytesConfig:
        """What transformers wants to hear."""
        return BitsAndBytesConfig(load_in_8bit=True)


Quantization = NF4 | Int8
"""Any quantization that a config can select."""


@contextmanager
def without_bitsandbytes() -> Iterator[None]:
    """Let peft not look for bitsandbytes under ``with``, unless it has been imported already.

    Wherever it is installed, peft imports it for every adapter that it makes, to see whether a layer is one of its:
    a second, for the compiler of torch that it brings. A model with such layers has imported it long since.
    """
    if "bitsandbytes" in sys.modules:
        yield
        return
    with blocked_imports("bitsandbytes"):
        _ask_again()
        try:
            yield
        finally:
            _ask_again()


def _ask_again() -> None:
    """peft remembers what it found."""
    is_bnb_available.cache_clear()
    is_bnb_4bit_available.cache_clear()
