"""LLaVA models of XTuner: parts, stages, adapters, and datasets with images."""

import pytest
from helpers.xtuner_config import HEAD

from xft.errors import ConfigError
from xft.migration.draft import CHANGED, MISSING, Draft
from xft.migration.xtuner import import_xtuner

ENCODER = "org/clip-vit-large-patch14-336"
IMAGES = f"""
from transformers import CLIPImageProcessor, CLIPVisionModel
from xtuner.dataset import LLaVADataset
from xtuner.dataset.map_fns import llava_map_fn

encoder = {ENCODER!r}
max_length = int(2048 - (336 / 14) ** 2)
image_processor = dict(type=CLIPImageProcessor.from_pretrained, pretrained_model_name_or_path=encoder)
tokenizer = dict(pretrained_model_name_or_path=path)
visual_encoder = dict(type=CLIPVisionModel.from_pretrained, pretrained_model_name_or_path=encoder)
train_dataloader = dict(batch_size=2, dataset=dict(
    type=LLaVADataset, data_path='mix.json', image_folder='pictures', tokenizer=tokenizer,
    image_processor=image_processor, dataset_map_fn=llava_map_fn, max_length=max_length, pad_image_to_square=True,
))
"""
LORA = "dict(type=LoraConfig, r=8, lora_alpha=16)"


def read(model: str, end: str = "") -> Draft:
    source = (
        HEAD + IMAGES + f"model = dict(type=LLaVAModel, llm=llm, visual_encoder=visual_encoder, {model})\n"
    )
    draft = import_xtuner(source + end, "c.py")
    assert draft.unexplained == []
    return draft


def kinds(draft: Draft) -> dict[str, str]:
    return {key: entry.kind for entry in draft.entries for key in entry.keys}


def test_stage_1_joins_the_parts_and_trains_the_projector() -> None:
    quantized = "llm = dict(**llm, quantization_config=dict(type=BitsAndBytesConfig, load_in_4bit=True))\n"
    source = HEAD + IMAGES + quantized
    model = "model = dict(type=LLaVAModel, llm=llm, visual_encoder=visual_encoder, freeze_llm=True, freeze_visual_encoder=True)\n"
    draft = import_xtuner(source + model, "c.py")
    assert draft.unexplained == []
    config = draft.finish()
    assert config["model"] == {
        "type": "llava",
        "path": "org/model",
        "vision": ENCODER,
        "vision_feature_layer": -2,
        "train": {"projector": "full", "language": "frozen", "vision": "frozen"},
    }
    assert config["adapter"] is None
    assert "quantization" not in config
    assert kinds(draft)["model.llm.quantization_config.load_in_4bit"] == CHANGED


def test_stage_2_starts_from_a_run_with_its_tokenizer() -> None:
    draft = read(f"freeze_llm=True, freeze_visual_encoder=True, llm_lora={LORA}, pretrained_pth='a.pth'")
    config = draft.finish()
    assert config["model"] == {
        "type": "vision_language",
        "path": "runs/llava_pretrain",
        "train": {"projector": "full", "language": "lora", "vision": "frozen"},
    }
    assert config["adapter"]["r"] == 8
    assert kinds(draft)["model.pretrained_pth"] == CHANGED


@pytest.mark.parametrize(
    ("model", "language", "vision"),
    [
        ("freeze_llm=False, freeze_visual_encoder=True", "full", "frozen"),
        (f"freeze_visual_encoder=True, visual_encoder_lora={LORA}", "full", "full"),
        (f"freeze_llm=True, freeze_visual_encoder=True, visual_encoder_lora={LORA}", "frozen", "lora"),
        (
            f"freeze_llm=True, llm_lora={LORA}, visual_encoder_lora=dict(type=LoraConfig, r=64)",
            "lora",
            "lora",
        ),
        ("", "full", "full"),
    ],
)
def test_parts_are_trained_as_in_xtuner(model: str, language: str, vision: str) -> None:
    draft = read(model)
    assert draft.get("model.train") == {"projector": "full", "language": language, "vision": vision}
    assert draft.get("adapter.r") == (8 if "lora" in (language, vision) else None)


def test_images_count_in_the_length_of_the_rows() -> None:
    draft = read("freeze_llm=True")
    data = draft.get("data")
    assert (data["path"], data["format"], data["image_folder"]) == ("mix.json", "llava", "pictures")
    assert data["max_length"] == 2048
    assert kinds(draft)["train_dataloader.dataset.pad_image_to_square"] == CHANGED


def test_questions_keep_their_text() -> None:
    hook = "dict(type=EvaluateChatHook, evaluation_inputs=['Describe it.'], evaluation_images='a.jpg', image_processor=image_processor)"
    draft = read("freeze_llm=True", f"custom_hooks = [{hook}]\n")
    assert draft.get("eval_prompts") == ["Describe it."]
    assert kinds(draft)["custom_hooks[0].evaluation_images"] == MISSING


def test_an_encoder_without_a_name_is_refused() -> None:
    source = HEAD + IMAGES + "model = dict(type=LLaVAModel, llm=llm, visual_encoder=dict(a=1))\n"
    with pytest.raises(ConfigError) as error:
        import_xtuner(source, "c.py")
    assert error.value.key == "model.visual_encoder.pretrained_model_name_or_path"
