"""Load a vision encoder, and measure the features that it gives to a projector."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoModel, PreTrainedModel

from xft.errors import ModelError
from xft.models.hub import hub_options, load_error, resolve_path
from xft.models.loading import load_config


def load_encoder(path: str, trust_remote_code: bool = False) -> tuple[PreTrainedModel, Any]:
    """Load a vision encoder without its text encoder, and its image processor.

    Raises:
        ModelError: they do not exist, cannot be read, or weights are missing.
    """
    source = resolve_path(path)
    options = hub_options(source, trust_remote_code)
    config = load_config(path, trust_remote_code)
    vision_config = config.sub_configs.get("vision_config") and config.vision_config
    try:
        tower, info = AutoModel.from_pretrained(
            source, config=vision_config or config, dtype="auto", output_loading_info=True, **options
        )
        images = AutoImageProcessor.from_pretrained(source, **options)
    except Exception as error:
        raise ModelError(load_error("vision encoder", path, error)) from error
    if info["missing_keys"]:
        raise ModelError(
            key="model.vision",
            got=f"{path} without {', '.join(sorted(info['missing_keys'])[:3])}",
            expected="all weights of a vision encoder",
        )
    return tower.eval(), images


@dataclass(frozen=True)
class Features:
    """Output of a vision encoder for one image of noise.

    Attributes:
        states: ``(tokens, channels)``.
        patch_size: side of the pixels that become one token.
        num_extra: number of tokens in addition to those of patches, such as a class token.
        is_map: the encoder is convolutional, and returns a map of features.
    """

    states: Tensor
    patch_size: int
    num_extra: int
    is_map: bool


def measure_features(tower: PreTrainedModel, images: Any, path: str) -> Features:
    """Compute the features of one image, to learn their number and their size.

    Args:
        tower: vision encoder.
        images: its image processor.
        path: path of the encoder, for the message.

    Raises:
        ModelError: the encoder has no square map of features, or the image processor makes images of another size.
    """
    noise = torch.randint(
        0, 256, (3, 80, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pixels = images(images=[noise], return_tensors="pt")["pixel_values"].to(tower.dtype)
    with torch.no_grad():
        output = tower(pixels, output_hidden_states=True)
    states, size = output.last_hidden_state, pixels.shape[-1]
    if states.ndim == 4 and pixels.shape[-2] == size and states.shape[-1] == states.shape[-2]:
        tower.config.hidden_size = states.shape[1]
        return Features(states[0].flatten(1).T, size // states.shape[-1], 0, is_map=True)
    patch = getattr(tower.config, "patch_size", None)
    if states.ndim == 3 and isinstance(patch, int) and pixels.shape[-2] == size:
        extra = states.shape[1] - (size // patch) ** 2
        if extra in (0, 1):
            return Features(states[0], patch, extra, is_map=False)
    raise ModelError(
        key="model.vision",
        got=f"{path} ({tower.config.model_type}), which turns {tuple(pixels.shape[-2:])} pixels into {tuple(states.shape)}",
        expected="an encoder of square images with patches and at most a class token, such as CLIP, SigLIP or a CNN",
    )
