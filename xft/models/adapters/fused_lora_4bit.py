"""The layer of :mod:`xft.models.adapters.fused_lora` on a base in NF4. Importing it imports bitsandbytes."""

from typing import Any

from bitsandbytes.functional import dequantize_4bit
from peft.tuners.lora.bnb import Linear4bit as PlainLinear4bit
from torch import Tensor

from xft.models.adapters.fused_lora import only_adapter, train_layer


class FusedLinear4bit(PlainLinear4bit):
    """A ``Linear4bit`` of bitsandbytes with an adapter: dequantised once a pass, and not kept."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        base: Any = self.get_base_layer()
        state = getattr(base.weight, "quant_state", None)
        name = None if args or kwargs else only_adapter(self, x)
        if name is None or state is None or base.compute_dtype != x.dtype:
            return super().forward(x, *args, **kwargs)
        return train_layer(self, name, x, lambda: dequantize_4bit(base.weight.data, state).to(x.dtype))
