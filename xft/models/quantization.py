"""Quantization of the frozen weights of a base model."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from peft.import_utils import is_bnb_4bit_available, is_bnb_available
from transformers import BitsAndBytesConfig, PreTrainedModel

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

    def config(self, dtype: torch.dtype, skip: list[str] | None = None) -> BitsAndBytesConfig:
        """Return the config for transformers; matrix products are computed in ``dtype``.

        Args:
            dtype: of the matrix products.
            skip: names of modules that stay as they are; ``None`` for the head alone.
        """
        return BitsAndBytesConfig(
            load_in_4bit=True,
            llm_int8_skip_modules=skip,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=self.double_quant,
            bnb_4bit_compute_dtype=dtype,
            bnb_4bit_quant_storage=self.quant_storage,
        )

    def loading_context(self) -> AbstractContextManager[None]:
        """Return a context in which fused experts are quantized too while they are read."""
        from xft.models.expert_quantization import quantized_experts

        return quantized_experts()

    def quantize_loaded(
        self, model: PreTrainedModel, device: torch.device, skip: list[str] | None = None
    ) -> None:
        """Quantize a model in host memory except the modules in ``skip``, and move it to a device."""
        from xft.models.expert_quantization import quantize_loaded

        quantize_loaded(model, self.config(model.dtype, skip), device)


@register("quantization", "int8")
@dataclass(frozen=True)
class Int8:
    """8-bit weights of bitsandbytes (LLM.int8(), https://arxiv.org/abs/2208.07339)."""

    bits: ClassVar[int] = 8

    def config(self, dtype: torch.dtype, skip: list[str] | None = None) -> BitsAndBytesConfig:
        """Return the config for transformers, as in :class:`NF4`; ``dtype`` is not used."""
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)

    def loading_context(self) -> AbstractContextManager[None]:
        """Return a context in which the weights are read: fused experts stay in 16 bits."""
        return nullcontext()


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
