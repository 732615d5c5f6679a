"""Fused kernels with hand-written gradients, each with an eager twin that gives the same numbers. Tensors only."""

from xft.kernels.attention_blocks import block_attention, block_attention_eager
from xft.kernels.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_eager
from xft.kernels.linear_log_probs import linear_log_probs, linear_log_probs_eager
from xft.kernels.lora_linear import lora_linear, lora_linear_eager
from xft.kernels.rms_norm import rms_norm, rms_norm_eager
from xft.kernels.swiglu import silu_mul, silu_mul_eager

__all__ = [
    "block_attention",
    "block_attention_eager",
    "linear_cross_entropy",
    "linear_cross_entropy_eager",
    "linear_log_probs",
    "linear_log_probs_eager",
    "lora_linear",
    "lora_linear_eager",
    "rms_norm",
    "rms_norm_eager",
    "silu_mul",
    "silu_mul_eager",
]
