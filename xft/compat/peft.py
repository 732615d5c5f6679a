"""peft, imported without bitsandbytes, which it imports wherever it is installed.

Import peft from here outside :mod:`xft.models`, whose package imports this module first.
"""

from xft.utils.system import blocked_imports

with blocked_imports("bitsandbytes"):  # see xft.models.quantization.without_bitsandbytes
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

__all__ = ["LoraLayer", "PeftModel", "get_peft_model_state_dict", "set_peft_model_state_dict"]
