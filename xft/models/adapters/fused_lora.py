"""LoRA layers of peft whose training step is one operation.

:func:`fused_linear_class` is registered with peft as the factory of adapter layers (``LoraConfig`` accepts custom
modules). The layers are subclasses of peft's, with the same weights, names, saving and merging. In training they
compute :func:`xft.kernels.lora_linear`; in evaluation, and for anything beyond ``W x + s B A x``, they run peft's
forward pass. Validation therefore measures the function that any user of the saved adapter computes.
"""

import sys

from peft import LoraConfig
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from xft.models.adapters.fused_lora_forward import fused_lora_forward, sole_active_adapter


class FusedLinear(Linear):
    """A frozen ``nn.Linear`` with an adapter."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Map ``(..., in)`` to ``(..., out)``."""
        base = self.get_base_layer()
        name = None if args or kwargs else sole_active_adapter(self, x)
        if name is None or base.weight.dtype != x.dtype:
            return super().forward(x, *args, **kwargs)
        return fused_lora_forward(self, name, x, lambda: base.weight)


def fused_linear_class(
    target: nn.Module, adapter_name: str, config: LoraConfig, **kwargs: object
) -> nn.Module | None:
    """Build the adapter layer of ``target``; ``None`` lets peft build it."""
    if kwargs.get("parameter_name") is not None:
        return None
    base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
    if config.use_dora or config.lora_bias:
        return None
    if type(base) is nn.Linear:
        return FusedLinear(target, adapter_name, config=config, **kwargs)
    # A model with 4-bit layers has imported bitsandbytes already; importing it here would take a second.
    bitsandbytes = sys.modules.get("bitsandbytes")
    if bitsandbytes is not None and type(base) is bitsandbytes.nn.Linear4bit:
        from xft.models.adapters.fused_lora_4bit import FusedLinear4bit

        return FusedLinear4bit(target, adapter_name, config=config, **kwargs)
    return None
