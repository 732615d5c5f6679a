"""Kernels: what makes a step fast, each with a plain reference beside it. Tensors only."""

from xft.kernels.attention_blocks import block_attention, block_attention_reference
from xft.kernels.linear_cross_entropy import head_cross_entropy, head_cross_entropy_reference
from xft.kernels.linear_log_probs import head_log_probs, head_log_probs_reference
from xft.kernels.lora_linear import lora_linear, lora_linear_reference
from xft.kernels.rms_norm import rms_norm, rms_norm_reference
from xft.kernels.swiglu import silu_gate, silu_gate_reference

__all__ = [
    "block_attention",
    "block_attention_reference",
    "head_cross_entropy",
    "head_cross_entropy_reference",
    "head_log_probs",
    "head_log_probs_reference",
    "lora_linear",
    "lora_linear_reference",
    "rms_norm",
    "rms_norm_reference",
    "silu_gate",
    "silu_gate_reference",
]
