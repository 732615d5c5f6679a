"""Whether a loaded model keeps packed samples apart is measured."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.vision import save_vision_model

from xft.models import LoadedModel, VisionLanguageConfig
from xft.models.forward_inputs import forward_inputs
from xft.models.vision.isolation import packing_problem
from xft.models.vision.processor import VisionProcessor


def load(folder: Path, family: str, **options: Any) -> tuple[LoadedModel, VisionProcessor]:
    """A tiny model, and its processor."""
    spec = VisionLanguageConfig(str(save_vision_model(folder, family)), dtype="float32", **options)
    loaded = spec.load(spec.load_tokenizer(), torch.device("cpu"))
    assert isinstance(loaded.processor, VisionProcessor)
    return loaded, loaded.processor


def test_model_that_keeps_samples_apart_has_no_problem(tmp_path: Path) -> None:
    loaded, processor = load(tmp_path, "qwen2_5_vl")
    assert packing_problem(loaded.base, processor) == ""
    assert loaded.supports_packing


def test_positions_that_count_tokens_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows and columns of an image have positions too."""
    loaded, processor = load(tmp_path, "qwen2_5_vl")

    def count(samples: Any, types: Any, inputs: Any) -> list[torch.Tensor]:
        return [torch.arange(len(sample)).expand(3, 1, -1) for sample in samples]

    monkeypatch.setattr(processor, "_positions", count)
    assert "as measured" in packing_problem(loaded.base, processor)


def test_attention_across_samples_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, processor = load(tmp_path, "llava")

    def one_segment(model: Any, batch: Any) -> dict[str, Any]:
        return {**forward_inputs(model, batch), "seq_lens": [sum(batch.seq_lens)]}

    monkeypatch.setattr("xft.models.vision.isolation.forward_inputs", one_segment)
    assert "as measured" in packing_problem(loaded.base, processor)


def test_bidirectional_attention_inside_images_is_a_problem(tmp_path: Path) -> None:
    loaded, _ = load(tmp_path, "gemma3")
    assert not loaded.supports_packing
    assert "as measured" in loaded.packing_problem


def test_other_attention_is_a_problem(tmp_path: Path) -> None:
    loaded, _ = load(tmp_path, "llava", attn_implementation="sdpa")
    assert "'sdpa'" in loaded.packing_problem
