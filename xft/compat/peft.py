"""peft, imported without bitsandbytes, which it imports wherever it is installed.

Import peft from here outside :mod:`xft.models`, whose package imports this module first.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from xft.utils.system import blocked_imports

with blocked_imports("bitsandbytes"):  # see xft.models.quantization.without_bitsandbytes
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.layer import ParamWrapper
    from peft.utils import transformers_weight_conversion as conversion

__all__ = [
    "LoraLayer",
    "ParamWrapper",
    "PeftModel",
    "get_peft_model_state_dict",
    "set_peft_model_state_dict",
]


def names_of_version_4(model_type: str) -> set[str]:
    """Return the last parts of names in ``target_modules`` that peft reads as experts or router of transformers 4.

    Args:
        model_type: of a mixture-of-experts model. For other models, peft takes names as they are.
    """
    pattern = conversion._MODEL_TO_CONVERSION_PATTERN.get(model_type, "")
    return set(conversion._MOE_TARGET_MODULE_MAPPING.get(pattern, ()))


@contextmanager
def without_name_conversion() -> Iterator[None]:
    """Make peft take the names in ``target_modules`` as they are."""

    def keep(*_: object, **__: object) -> None:
        """Change nothing."""

    before = conversion.convert_peft_config_for_transformers
    conversion.convert_peft_config_for_transformers = keep
    try:
        yield
    finally:
        conversion.convert_peft_config_for_transformers = before
