"""Options of the forward pass that belong to one loaded model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from peft import PeftModel
from torch import nn
from transformers import PretrainedConfig

from xft.types import ImageProcessor

_ATTRIBUTE = "xft_options"


@dataclass
class ModelOptions:
    """Options of a loaded model, kept on the transformers model so that copies inherit them.

    Attributes:
        fused_kernels: compute with :mod:`xft.kernels` where possible.
        router_aux_loss_coef: coefficient of the auxiliary loss of a mixture-of-experts model; ``None`` leaves it to
            the model's config.
        stored_format: number format of the files of the base, if it is not 16 or 32 bits.
        neftune_alpha: strength of the NEFTune noise in training; ``None`` adds no noise.
        half_frozen_adapter: half of each LoRA matrix gets no gradient (PiSSA and OLoRA).
        processor: image processor; ``None`` for a text model.
        lr_of: learning rate of a parameter by its name; ``None`` for that of the optimizer.
        linear_head: whether the logits are exactly ``head(last hidden states)``; ``None`` until checked.
    """

    fused_kernels: bool = True
    router_aux_loss_coef: float | None = None
    stored_format: str | None = None
    neftune_alpha: float | None = None
    half_frozen_adapter: bool = False
    linear_head: bool | None = None
    processor: ImageProcessor | None = None
    lr_of: Callable[[str], float | None] = lambda _: None


def without_adapter(model: nn.Module) -> nn.Module:
    """Return the transformers model below an adapter, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def decoder_config(config: PretrainedConfig) -> PretrainedConfig:
    """Return the config of the text decoder; the config itself if it has several."""
    try:
        return config.get_text_config()
    except ValueError:
        return config


def transformers_config(model: nn.Module) -> PretrainedConfig:
    """Return the transformers config of a model, with or without an adapter."""
    return cast(PretrainedConfig, model.config)


def set_model_options(model: nn.Module, options: ModelOptions) -> None:
    """Attach the options to a transformers model, with or without an adapter."""
    setattr(without_adapter(model), _ATTRIBUTE, options)


def model_options(model: nn.Module) -> ModelOptions:
    """Return the options of a model; a model without options gets the defaults."""
    base = without_adapter(model)
    options: ModelOptions | None = getattr(base, _ATTRIBUTE, None)
    if options is None:
        options = ModelOptions()
        setattr(base, _ATTRIBUTE, options)
    return options
