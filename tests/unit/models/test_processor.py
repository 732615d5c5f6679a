"""Tokens of images from sizes, and files of a processor."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.pictures import picture
from helpers.vision import save_vision_model
from transformers import AutoConfig, AutoTokenizer, LlamaConfig

from xft.errors import ModelError
from xft.models.vision.processor import VisionProcessor

SIZES = [(20, 24), (41, 33), (300, 77), (64, 64), (9, 9)]


@pytest.fixture(
    scope="module", params=["llava", "llava_onevision", "qwen2_5_vl", "internvl", "idefics3", "gemma3"]
)
def processor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VisionProcessor:
    """The processor of a tiny model."""
    folder = save_vision_model(tmp_path_factory.mktemp("model"), request.param)
    return open_processor(folder)


def open_processor(folder: Path, **options: Any) -> VisionProcessor:
    """The processor of a folder."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    return VisionProcessor(str(folder), AutoConfig.from_pretrained(folder), tokenizer, options=options)


def test_formula_gives_the_text_of_the_processor(processor: VisionProcessor) -> None:
    formula = processor._find_formula()
    # The text of Idefics 3 names rows and columns, which no count describes.
    assert (formula is None) == (type(processor.processor).__name__ == "Idefics3Processor")
    for size in SIZES if formula is not None else ():
        assert formula is not None
        assert [formula(size)] == processor._write([size])


def test_many_sizes_expand_like_single_pictures(processor: VisionProcessor) -> None:
    sizes = [(20 + number, 24 + 3 * number) for number in range(20)]
    assert [processor.expand([size])[0] for size in sizes] == [
        processor._write([size])[0] for size in sizes
    ]
    assert processor.expand(sizes[:3]) == processor._write(sizes[:3])


def test_place_of_an_image_is_that_of_the_chat_template(processor: VisionProcessor) -> None:
    name = type(processor.processor).__name__
    expected = {
        "Qwen2_5_VLProcessor": "<|vision_start|><|image_pad|><|vision_end|>",
        "InternVLProcessor": "<IMG_CONTEXT>\\n",
    }
    assert processor.placeholder == expected.get(name, processor.token)


def test_saved_processor_has_the_same_fingerprint(processor: VisionProcessor, tmp_path: Path) -> None:
    processor.processor.tokenizer.save_pretrained(tmp_path)
    processor.save(tmp_path)
    config = json.loads((tmp_path / "processor_config.json").read_text())
    assert config["processor_class"] == type(processor.processor).__name__
    model = Path(processor._source)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    reloaded = VisionProcessor(str(tmp_path), AutoConfig.from_pretrained(model), tokenizer)
    assert reloaded.fingerprint == processor.fingerprint


def test_limits_of_pixels_change_tokens_and_fingerprint(tmp_path: Path) -> None:
    folder = save_vision_model(tmp_path, "qwen2_5_vl")
    default, limited = open_processor(folder), open_processor(folder, max_pixels=16 * 16)
    assert default.expand([(48, 48)]) == ["<|image_pad|>" * 36]
    assert limited.expand([(48, 48)]) == ["<|image_pad|>" * 4]
    assert default.fingerprint != limited.fingerprint


def test_limits_of_pixels_of_a_fixed_size_raise(tmp_path: Path) -> None:
    folder = save_vision_model(tmp_path, "llava")
    with pytest.raises(ModelError) as caught:
        open_processor(folder, max_pixels=100)
    assert caught.value.key == "model.max_pixels"


def test_part_for_videos_is_kept(tmp_path: Path) -> None:
    folder = save_vision_model(tmp_path / "model", "qwen2_5_vl")
    file = folder / "processor_config.json"
    config = json.loads(file.read_text()) | {"video_processor": {"fps": 2}}
    file.write_text(json.dumps(config))
    (folder / "video_preprocessor_config.json").write_text("{}")
    saved = tmp_path / "saved"
    saved.mkdir()
    open_processor(folder).save(saved)
    assert json.loads((saved / "processor_config.json").read_text())["video_processor"] == {"fps": 2}
    assert (saved / "video_preprocessor_config.json").read_text() == "{}"


def test_sample_of_pictures_has_no_targets(processor: VisionProcessor) -> None:
    sample = processor.sample("Look: ", [picture(20, 24), picture(30, 20)])
    assert sample.num_targets == 0
    assert [image.size for image in sample.images] == [(20, 24), (30, 20)]


def test_folder_without_a_processor_raises(tmp_path: Path, byte_tokenizer: Any) -> None:
    byte_tokenizer.save_pretrained(tmp_path)
    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError):
        VisionProcessor(str(tmp_path), LlamaConfig(), byte_tokenizer)
