"""Parts of vision-language models, and how they are trained."""

import re

import pytest
import torch
from helpers.vision import FAMILIES, byte_tokenizer
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma4AudioConfig,
    Gemma4Config,
    Gemma4UnifiedConfig,
    Gemma4UnifiedVisionConfig,
    Gemma4VisionConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
)

from xft.errors import ConfigError, ModelError
from xft.models.vision.parts import PartNames, check_modes, parts_of, vision_parts


def tiny(name: str) -> torch.nn.Module:
    """A tiny model of a family, without weights."""
    family = FAMILIES[name]
    tokenizer = byte_tokenizer(family)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokenizer.get_vocab()}
    ids |= {key: tokenizer.convert_tokens_to_ids(token) for key, token in family.tokens.items()}
    with torch.device("meta"):
        model: torch.nn.Module = AutoModelForImageTextToText.from_config(family.config(ids, len(tokenizer)))
    return model


@pytest.mark.parametrize(
    ("family", "vision", "projector"),
    [
        ("llava", ["model.vision_tower"], ["model.multi_modal_projector"]),
        ("qwen2_5_vl", ["model.visual.patch_embed", "model.visual.blocks.0"], ["model.visual.merger"]),
        ("idefics3", ["model.vision_model"], ["model.connector"]),
    ],
)
def test_each_module_belongs_to_a_part(family: str, vision: list[str], projector: list[str]) -> None:
    model = tiny(family)
    names = PartNames(model)
    assert set(vision) <= set(names.modules_of(model, "vision"))
    assert names.modules_of(model, "projector") == projector
    assert names.modules_of(model, "language") == [names.decoder, "lm_head"]
    assert {names.part_of(name) for name, _ in model.named_parameters()} == {
        "vision",
        "projector",
        "language",
    }


def test_vector_between_the_parts_belongs_to_the_projector() -> None:
    assert PartNames(tiny("llava_next")).part_of("model.image_newline") == "projector"


def test_list_of_projectors_is_named_by_its_items() -> None:
    model = tiny("qwen3_vl")
    assert PartNames(model).modules_of(model, "projector") == [
        "model.visual.merger",
        "model.visual.deepstack_merger_list.0",
    ]


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16),
        OPTConfig(
            hidden_size=16, word_embed_proj_dim=16, num_hidden_layers=1, num_attention_heads=2, ffn_dim=16
        ),
    ],
)
def test_text_model_has_no_parts(config: PretrainedConfig) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert parts_of(model) is None
    with pytest.raises(ModelError) as caught:
        vision_parts(model)
    assert caught.value.key == "model.path"


def test_audio_encoder_and_its_projector_are_a_part() -> None:
    config = Gemma4Config(vision_config=Gemma4VisionConfig(), audio_config=Gemma4AudioConfig())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    names = vision_parts(model)
    assert names.modules_of(model, "audio") == ["model.audio_tower", "model.embed_audio"]
    assert names.modules_of(model, "projector") == ["model.embed_vision"]
    assert names.modules_of(model, "language") == ["model.language_model", "lm_head"]


@pytest.mark.parametrize(
    "family", ["fuyu", "git", "phi4_multimodal", "moss_transcribe_diarize", "got_ocr2"]
)
def test_parts_of_multimodal_families_cover_what_transformers_does_not_name(family: str) -> None:
    """A text needs embeddings, layers and head alone."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family]())
    names = parts_of(model)
    assert names is not None
    others = {name for name, _ in model.named_parameters() if names.part_of(name) != "language"}
    assert others
    assert all(re.search("vision|visual|image|img|audio|multi_modal", name) for name in others)
    assert not any(
        re.search("vision|visual|image_e|img|audio|multi_modal", name)
        for name, _ in model.named_parameters()
        if name not in others
    )


def test_projectors_without_a_tower_are_parts() -> None:
    config = Gemma4UnifiedConfig(vision_config=Gemma4UnifiedVisionConfig())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    names = parts_of(model)
    assert names is not None
    assert names.part_of("model.embed_vision.embedding_projection.weight") == "projector"


def test_language_model_is_trained_by_default() -> None:
    assert check_modes({}, True) == {"vision": "frozen", "projector": "frozen", "language": "lora"}
    assert check_modes({"projector": "full"}, False)["language"] == "full"
    assert check_modes({"vision": "full"}, True) == {
        "vision": "full",
        "projector": "frozen",
        "language": "lora",
    }


@pytest.mark.parametrize(
    ("train", "has_adapter", "key"),
    [
        ({"tower": "full"}, True, "model.train.tower"),
        ({"vision": "yes"}, True, "model.train.vision"),
        ({"vision": "lora"}, False, "model.train.vision"),
        ({"language": "full"}, True, "model.train.language"),
        ({"language": "frozen"}, False, "model.train"),
        ({"language": "frozen", "projector": "full"}, True, "adapter"),
    ],
)
def test_modes_that_do_not_fit_raise(train: dict[str, str], has_adapter: bool, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_modes(train, has_adapter)
    assert caught.value.key == key
