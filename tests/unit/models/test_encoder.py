"""Vision encoders: the number of their features, and a frozen one that training leaves as it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers.tiny import save_tiny

from xft.errors import ModelError
from xft.models import LlavaPartsConfig, LoRA
from xft.models.vision.encoder import load_encoder, measure_features
from xft.templates import SOURCES


def save_cnn(folder: Path, size: int = 64) -> Path:
    """A tiny EfficientNet, and a processor for images of its size."""
    torch.manual_seed(0)
    config = transformers.EfficientNetConfig(
        width_coefficient=0.1, depth_coefficient=0.1, image_size=size, hidden_dim=128, dropout_rate=0.0, drop_connect_rate=0.0
    )  # fmt: skip
    transformers.EfficientNetModel(config).save_pretrained(folder)
    side = {"height": size, "width": size}
    transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size=side).save_pretrained(folder)
    return folder


def test_features_of_a_cnn_are_a_map(tmp_path: Path) -> None:
    tower, images = load_encoder(str(save_cnn(tmp_path)))
    features = measure_features(tower, images, "cnn")
    assert (features.is_map, features.num_extra, features.patch_size) == (True, 0, 32)
    assert features.states.shape == (4, 128)


def test_missing_weights_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_encoder(str(tmp_path / "absent"))


def test_frozen_cnn_is_joined_and_keeps_its_statistics(tmp_path: Path, make_byte_tokenizer: Any) -> None:
    language = save_tiny(tmp_path / "llama", "llama", make_byte_tokenizer(SOURCES["chatml"]))
    spec = LlavaPartsConfig(
        str(language), vision=str(save_cnn(tmp_path / "cnn")), dtype="float32", train={"projector": "full"}
    )
    loaded = spec.load(spec.load_tokenizer(), torch.device("cpu"), LoRA(r=2))
    assert type(loaded.base).__name__ == "FastVlmForConditionalGeneration"
    assert loaded.supports_packing
    assert loaded.processor is not None
    assert loaded.processor.expand([(30, 90)]) == ["<image>" * 4]
    tower = loaded.base.get_encoder(modality="image")
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    pixels = torch.rand(2, 3, 64, 64)
    expected = tower.eval()(pixels).last_hidden_state
    loaded.model.train()
    assert torch.equal(tower(pixels).last_hidden_state, expected)
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())
    projector = loaded.base.model.multi_modal_projector
    embeddings = loaded.base.get_input_embeddings().weight
    noise = expected.flatten(2).transpose(1, 2)
    assert projector(noise).square().mean().sqrt() > 2 * embeddings.square().mean().sqrt()
