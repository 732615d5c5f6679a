"""Quantization of the frozen weights of a base model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from peft.import_utils import is_bnb_4bit_available, is_bnb_available
from transformers import BitsAndBytesConfig

from xft.registry import register
from xft.utils.system import blocked_imports


@register("quantization", "nf4")
@dataclass(frozen=True)
class NF4:
    """4-bit NormalFloat weights of bitsandbytes, dequantized in each forward pass.

    Args:
        double_quant: quantize the quantization constants too.
        quant_storage: storage dtype of the packed weights. ZeRO-3 shards either; FSDP requires the dtype of the
            other weights.
    """

    double_quant: bool = True
    quant_storage: Literal["uint8", "bfloat16"] = "uint8"

    bits: ClassVar[int] = 4

    def config(self, dtype: torch.dtype) -> BitsAndBytesConfig:
        """Return the config for transformers; matrix products are computed in ``dtype``."""
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=self.double_quant,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=self.quant_storage,
        )


@register("quantization", "int8")
@dataclass(frozen=True)
class Int8:
    """8-bit weights of bitsandbytes (LLM.int8(), https://arxiv.org/abs/2208.07339)."""

    bits: ClassVar[int] = 8

    def config(self, dtype: torch.dtype) -> BitsAndBytesConfig:
        """Return the config for transformers; ``dtype`` is not used."""
        return BitsAndBytesConfig(load_in_8bit=True)


Quantization = NF4 | Int8
"""Any quantization that a config can select."""


@contextmanager
def peft_without_bnb_import() -> Iterator[None]:
    """Prevent peft from importing bitsandbytes, unless it is imported already.

    peft imports an installed bitsandbytes for every adapter, to check the types of the layers. Why: the import
    takes a second, mostly for the compiler of torch. Models with quantized layers have imported it before.
    """
    if "bitsandbytes" in sys.modules:
        yield
        return
    with blocked_imports("bitsandbytes"):
        _refresh_peft_check()
        try:
            yield
        finally:
            _refresh_peft_check()


def _refresh_peft_check() -> None:
    """Clear the cached result of peft's check for bitsandbytes."""
    is_bnb_available.cache_clear()
    is_bnb_4bit_available.cache_clear()
