"""The layer of :mod:`xft.models.adapters.fused_lora` on a base in NF4. Importing it imports bitsandbytes."""

from peft.tuners.lora.bnb import Linear4bit
from torch import Tensor

from xft.compat.bitsandbytes import bitsandbytes
from xft.models.adapters.fused_lora_forward import fused_lora_forward, sole_active_adapter
from xft.models.param_shapes import quant_state


class FusedLinear4bit(Linear4bit):
    """A ``Linear4bit`` of bitsandbytes with an adapter. Each pass dequantizes the weight once and discards it."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        base = self.get_base_layer()
        state = quant_state(base.weight)
        name = None if args or kwargs else sole_active_adapter(self, x)
        if name is None or state is None or base.compute_dtype != x.dtype:
            return super().forward(x, *args, **kwargs)
        return fused_lora_forward(
            self,
            name,
            x,
            lambda: bitsandbytes.functional.dequantize_4bit(base.weight.data, state).to(x.dtype),
        )
