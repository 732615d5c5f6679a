"""A language model and a vision encoder are joined, trained in two stages, merged, and opened by plain transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers.pictures import picture
from helpers.tiny import save_tiny
from helpers.vision import write_image_rows
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from xft.errors import ModelError
from xft.export.convert import convert
from xft.models import LlavaPartsConfig, LoRA
from xft.training.train import TrainOptions, train

_VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4,
    "image_size": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory, make_byte_tokenizer: Any) -> Path:
    """A tiny language model whose tokenizer has a text-only chat template and no image token."""
    from xft.templates import SOURCES

    tokenizer = make_byte_tokenizer(SOURCES["chatml"])
    return save_tiny(tmp_path_factory.mktemp("language") / "llama", "llama", tokenizer)


def save_encoder(folder: Path, kind: str) -> Path:
    """A tiny vision encoder; that of CLIP comes with its text encoder, as on the hub."""
    torch.manual_seed(1)
    size = {"height": 16, "width": 16}
    if kind == "clip":
        text = {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
        config = transformers.CLIPConfig(text_config=text, vision_config=_VISION, projection_dim=16)
        transformers.CLIPModel(config).save_pretrained(folder)
        transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    else:
        config = transformers.SiglipVisionConfig(**_VISION)
        transformers.SiglipVisionModel(config).save_pretrained(folder)
        transformers.SiglipImageProcessor(size=size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP."""
    return save_encoder(tmp_path_factory.mktemp("clip"), "clip")


def joined(language: Path, encoder: Path, **options: Any) -> Path:
    """The folder of the joined model."""
    return Path(LlavaPartsConfig(str(language), vision=str(encoder), **options).resolve_source().base)


def test_joined_model_computes_the_texts_of_the_language_model(language: Path, encoder: Path) -> None:
    folder = joined(language, encoder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("some text", return_tensors="pt")
    before = AutoModelForCausalLM.from_pretrained(language)
    after = AutoModelForImageTextToText.from_pretrained(folder)
    assert type(after).__name__ == "LlavaForConditionalGeneration"
    rows = before.config.vocab_size
    with torch.no_grad():
        logits = after(**inputs).logits
        assert_close(logits[..., :rows], before(**inputs).logits)
    weight = before.get_input_embeddings().weight
    assert after.config.text_config.vocab_size == rows + 1 == after.config.image_token_id + 1
    assert_close(after.get_input_embeddings().weight[rows], weight.mean(dim=0))
    tower = transformers.CLIPModel.from_pretrained(encoder).vision_model
    pixels = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        states = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        features = after.model.multi_modal_projector(states)
        assert_close(after.get_image_features(pixels).pooler_output[0], features[0])


def test_processor_writes_the_tokens_of_the_features(language: Path, encoder: Path) -> None:
    folder = joined(language, encoder)
    processor = AutoProcessor.from_pretrained(folder)
    assert type(processor).__name__ == "LlavaProcessor"
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    text = processor.apply_chat_template(turns, tokenize=False)
    assert "<image>\nwhat?" in text
    inputs = processor(text=text, images=[picture(20, 30)], return_tensors="pt")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 16
    assert model(**inputs).logits.isfinite().all()


def test_encoder_without_a_class_token_keeps_all_patches(language: Path, tmp_path: Path) -> None:
    folder = joined(language, save_encoder(tmp_path, "siglip"), vision_feature_layer=-1)
    config = json.loads((folder / "config.json").read_text())
    assert config["vision_feature_select_strategy"] == "full"
    assert config["vision_feature_layer"] == -1
    assert config["image_seq_length"] == 16


def test_parts_are_joined_once(language: Path, encoder: Path, tmp_path: Path) -> None:
    first = joined(language, encoder)
    written = (first / "config.json").stat().st_mtime_ns
    assert joined(language, encoder) == first
    assert (first / "config.json").stat().st_mtime_ns == written
    assert joined(language, encoder, vision_feature_select_strategy="full") != first


def test_encoder_without_patches_is_refused(language: Path, tmp_path: Path) -> None:
    """Swin merges its patches."""
    config = transformers.SwinConfig(
        image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 1], window_size=4
    )
    transformers.SwinModel(config).save_pretrained(tmp_path)
    side = {"height": 32, "width": 32}
    transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        joined(language, tmp_path)
    assert caught.value.key == "model.vision"


def test_language_model_with_scaled_logits_is_refused(
    encoder: Path, tmp_path: Path, make_byte_tokenizer: Any
) -> None:
    tokenizer = make_byte_tokenizer()
    config = transformers.GraniteConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, logits_scaling=8.0,
    )  # fmt: skip
    transformers.GraniteForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError) as caught:
        joined(tmp_path, encoder)
    assert caught.value.key == "model.path"


_CONFIG = """
model = dict(type="llava", path={language!r}, vision={encoder!r}, dtype="float32",
             train=dict(projector="full", language="frozen"))
data = dict(type="instruction", path={rows!r}, format="openai", max_length=512, val_split=2)
training = dict(max_steps=3, micro_batch_size=2)
optimizer = dict(type="adamw", lr=1e-2)
hooks = {{}}
"""


@pytest.mark.parametrize("vision", ["lora", "full"])
def test_two_stages_merge_and_open_in_transformers(
    language: Path, encoder: Path, tmp_path: Path, vision: str
) -> None:
    rows = write_image_rows(tmp_path)
    config = tmp_path / "stage_1.py"
    paths = {"language": str(language), "encoder": str(encoder), "rows": str(rows)}
    config.write_text(_CONFIG.format(**paths), encoding="utf-8")
    stage_1 = train(TrainOptions(str(config), str(tmp_path / "one")))
    start = transformers.LlavaForConditionalGeneration.from_pretrained(joined(language, encoder))
    first = transformers.LlavaForConditionalGeneration.from_pretrained(stage_1 / "final")
    assert changed(start, first) == {"multi_modal_projector"}

    config = tmp_path / "stage_2.py"
    text = _CONFIG.format(**paths).replace('type="llava"', 'type="vision_language"')
    text = text.replace(repr(str(language)), repr(str(stage_1))).replace(f"vision={str(encoder)!r}, ", "")
    text = text.replace('language="frozen"', f'language="lora", vision="{vision}"')
    config.write_text(f"{text}adapter = dict(type='lora', r=4)\n", encoding="utf-8")
    stage_2 = train(TrainOptions(str(config), str(tmp_path / "two")))
    merged = tmp_path / "merged"
    convert(str(stage_2), str(merged), merged=True, subprocess=False)
    second = transformers.LlavaForConditionalGeneration.from_pretrained(merged)
    assert changed(first, second) == {"multi_modal_projector", "language_model", "vision_tower"}

    processor = AutoProcessor.from_pretrained(merged)
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}]
    text = processor.apply_chat_template(turns, add_generation_prompt=True)
    inputs = processor(text=text, images=[picture(20, 30)], return_tensors="pt")
    from xft.models import load_saved_model

    live = load_saved_model(str(stage_2)).model.eval()
    with torch.no_grad():
        assert_close(second.eval()(**inputs).logits, live(**inputs).logits, rtol=1e-4, atol=1e-4)
    assert second.generate(**inputs, max_new_tokens=3).shape[1] == inputs["input_ids"].shape[1] + 3


def test_projector_on_a_base_in_bf16_keeps_small_updates_and_resumes(
    language: Path, encoder: Path, tmp_path: Path
) -> None:
    rows, config = write_image_rows(tmp_path), tmp_path / "stage_1.py"
    text = _CONFIG.format(language=str(language), encoder=str(encoder), rows=str(rows))
    text = text.replace('dtype="float32"', 'dtype="bfloat16"').replace("lr=1e-2", "lr=1e-7")
    text = text.replace("hooks = {}", "hooks = dict(checkpoint=dict(type='checkpoint', interval=1))")
    config.write_text(text, encoding="utf-8")
    whole = train(TrainOptions(str(config), str(tmp_path / "whole")))
    resume = str(whole / "checkpoints" / "step_2")
    resumed = train(TrainOptions(str(config), str(tmp_path / "resumed"), resume=resume))
    weights, again = (load_file(run / "final" / "model.safetensors") for run in (whole, resumed))
    start = load_file(joined(language, encoder) / "model.safetensors")
    for name, weight in weights.items():
        assert torch.equal(weight, again[name])
        is_projector = "multi_modal_projector" in name
        assert weight.dtype == (torch.float32 if is_projector else torch.bfloat16)
        rounded = start[name].to(torch.bfloat16)
        assert torch.equal(weight.float(), rounded.float()) is not is_projector
    from xft.models import load_saved_model

    loaded = load_saved_model(str(whole))
    assert {param.dtype for param in loaded.model.parameters()} == {torch.bfloat16}


def changed(before: Any, after: Any) -> set[str]:
    """The parts with a parameter that differs."""
    params = dict(after.named_parameters())
    return {
        name.split(".")[1]
        for name, param in before.named_parameters()
        if not torch.equal(param, params[name])
    }


def test_options_are_kept(language: Path, encoder: Path) -> None:
    spec = LlavaPartsConfig(
        str(language), vision=str(encoder), dtype="float32", train={"projector": "full"}
    )
    loaded = spec.load(spec.load_tokenizer(), torch.device("cpu"), LoRA(r=2))
    assert loaded.supports_packing
    assert any(
        "multi_modal_projector" in name and param.requires_grad
        for name, param in loaded.model.named_parameters()
    )
