"""peft, imported without bitsandbytes, which it imports wherever it is installed.

Import peft from here outside :mod:`xft.models`, whose package imports this module first.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn

from xft.utils.system import blocked_imports

with blocked_imports("bitsandbytes"):  # see xft.models.quantization.without_bitsandbytes
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer, LoraModel
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


@contextmanager
def attaching_in(context: Callable[[nn.Module], AbstractContextManager[None]]) -> Iterator[None]:
    """Make peft attach LoRA to each layer inside a context of the layer.

    Args:
        context: gets the layer without LoRA.
    """
    original = LoraModel._create_and_replace

    def create(
        model: LoraModel,
        config: LoraConfig,
        adapter: str,
        target: nn.Module,
        *args: object,
        **kwargs: object,
    ) -> None:
        with context(target):
            original(model, config, adapter, target, *args, **kwargs)

    LoraModel._create_and_replace = create
    try:
        yield
    finally:
        LoraModel._create_and_replace = original
