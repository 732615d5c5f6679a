"""Processors of transformers without the part for videos."""

from pathlib import Path

import pytest
from helpers.pictures import picture
from helpers.vision import save_vision_model
from transformers import AutoConfig, LlavaProcessor, Qwen2_5_VLProcessor, SmolVLMProcessor

from xft.compat.processors import count_image_tokens, load_processor, process_images, without_video


def test_class_needs_no_video_processor() -> None:
    changed = without_video(Qwen2_5_VLProcessor)
    assert issubclass(changed, Qwen2_5_VLProcessor)
    assert changed.__name__ == "Qwen2_5_VLProcessor"
    assert changed.get_attributes() == ["image_processor", "tokenizer"]


@pytest.mark.parametrize("processor_class", [LlavaProcessor, SmolVLMProcessor])
def test_class_without_an_optional_video_processor_stays(processor_class: type) -> None:
    assert without_video(processor_class) is processor_class


def test_images_are_processed_without_a_text(tmp_path: Path) -> None:
    folder = save_vision_model(tmp_path, "qwen2_5_vl")
    processor = load_processor(str(folder), AutoConfig.from_pretrained(folder))
    inputs, texts = process_images(processor, [[picture(16, 24)], [picture(8, 8)]])
    assert texts == ["<|image_pad|>" * 6, "<|image_pad|>"]
    assert inputs["image_grid_thw"].tolist() == [[1, 4, 6], [1, 2, 2]]
    assert count_image_tokens(processor, (16, 24)) == 6
