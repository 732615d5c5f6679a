"""Kernels with hand-written gradients, on tensors only.

Each equals its formula in eager torch operations, within a tolerance that the tests derive from the dtype. The eager
``rms_norm_eager`` and ``silu_mul_eager`` tell which modules of transformers compute these formulas.
"""

from xft.kernels.attention_blocks import block_attention
from xft.kernels.linear_cross_entropy import linear_cross_entropy
from xft.kernels.linear_log_probs import linear_log_probs
from xft.kernels.lora_linear import lora_linear
from xft.kernels.rms_norm import rms_norm, rms_norm_eager
from xft.kernels.swiglu import silu_mul, silu_mul_eager

__all__ = [
    "block_attention",
    "linear_cross_entropy",
    "linear_log_probs",
    "lora_linear",
    "rms_norm",
    "rms_norm_eager",
    "silu_mul",
    "silu_mul_eager",
]
