"""A multimodal checkpoint that is loaded as a language model: its language model alone is trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import tiny_config
from helpers.vision import save_vision_model
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from xft.errors import ConfigError
from xft.models import NF4, CausalLMConfig, LoRA, ModelMetadata, save_model
from xft.models.adapters.merging import merge
from xft.models.vision.parts import PartNames
from xft.models.vision.restricted_targets import restrict_targets, restrict_to_language

IDS = torch.arange(5, 17)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3 with its vision tower."""
    return save_vision_model(tmp_path_factory.mktemp("model"), "gemma3")


def load(folder: Path, adapter: LoRA | None = None) -> Any:
    spec = CausalLMConfig(str(folder), dtype="float32")
    return spec.load(spec.load_tokenizer(), torch.device("cpu"), adapter)


def trained_parts(loaded: Any) -> set[str]:
    names = PartNames(loaded.base)
    return {
        names.part_of(name.removeprefix("base_model.model."))
        for name, param in loaded.model.named_parameters()
        if param.requires_grad
    }


def train_and_save(loaded: Any, folder: Path) -> dict[str, torch.Tensor]:
    """Take a step, save the model as one folder, merged if it has an adapter, and return its logits."""
    optimizer = torch.optim.AdamW(
        [param for param in loaded.model.parameters() if param.requires_grad], lr=0.1
    )
    for _ in range(2):
        loaded.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        logits = loaded.model.eval()(input_ids=IDS).logits
    model = merge(loaded.model) if isinstance(loaded.model, PeftModel) else loaded.model
    save_model(model, loaded.tokenizer, None, ModelMetadata("base", "float32"), folder)
    return logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("adapted", [True, False])
def test_language_model_alone_is_trained_and_the_saved_model_is_standard(
    adapted: bool, folder: Path, tmp_path: Path
) -> None:
    loaded = load(folder, LoRA(r=2) if adapted else None)
    assert trained_parts(loaded) == {"language"}
    logits = train_and_save(loaded, tmp_path)
    before = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    after, info = AutoModelForImageTextToText.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    with torch.no_grad():
        torch.testing.assert_close(after.eval()(input_ids=IDS).logits, logits, rtol=0, atol=1e-4)
    names, changed = PartNames(before), set()
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        changed |= set() if torch.equal(old, new) else {names.part_of(name)}
    assert changed == {"language"}


def test_quantization_leaves_other_parts_and_the_head_as_they_are(folder: Path, tmp_path: Path) -> None:
    """They would be rounded in a merged model, which no training makes good."""
    spec = CausalLMConfig(str(folder), dtype="float32")
    loaded = spec.load(spec.load_tokenizer(), torch.device("cpu"), LoRA(r=2), NF4())
    names = PartNames(loaded.base)
    quantized = [name for name, param in loaded.base.named_parameters() if param.dtype == torch.uint8]
    assert quantized
    assert {names.part_of(name) for name in quantized} == {"language"}
    assert not any("lm_head" in name for name in quantized)
    train_and_save(loaded, tmp_path)
    before, after = (
        AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32)
        for path in (folder, tmp_path)
    )
    assert torch.equal(
        before.model.multi_modal_projector.mm_input_projection_weight,
        after.model.multi_modal_projector.mm_input_projection_weight,
    )
    layers = (model.model.vision_tower.encoder.layers[0].mlp.fc1.weight for model in (before, after))
    assert torch.equal(*layers)


def test_adapter_is_one_of_peft_on_the_multimodal_class(folder: Path, tmp_path: Path) -> None:
    loaded = load(folder, LoRA(r=2))
    torch.nn.init.normal_(
        next(param for name, param in loaded.model.named_parameters() if "lora_B" in name)
    )
    loaded.model.save_pretrained(tmp_path)
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    peft = PeftModel.from_pretrained(plain, str(tmp_path))
    with torch.no_grad():
        expected, result = (model.eval()(input_ids=IDS).logits for model in (loaded.model, peft))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("targets", ["all-linear", "attention", "all", ["q_proj", "v_proj"], r".*\.q_proj"])
def test_names_that_towers_have_too_reach_the_language_model_alone(
    targets: str | list[str], folder: Path
) -> None:
    loaded = load(folder, LoRA(r=2, target_modules=targets))
    assert trained_parts(loaded) == {"language"}


@pytest.mark.parametrize(
    ("targets", "parts"),
    [
        (["vision_tower.encoder.layers.0.self_attn.q_proj"], {"vision"}),
        (["q_proj", "fc1"], {"language", "vision"}),
        (r".*vision.*\.(q_proj|v_proj)", {"vision"}),
        (r".*(vision_tower|language_model).*\.q_proj", {"language", "vision"}),
    ],
)
def test_layers_of_other_parts_are_adapted_if_they_are_asked_for(
    targets: str | list[str], parts: set[str], folder: Path
) -> None:
    assert trained_parts(load(folder, LoRA(r=2, target_modules=targets))) == parts


def test_section_for_a_text_model_stays_as_it_is() -> None:
    adapter = LoRA()
    assert (
        restrict_to_language(adapter, AutoModelForCausalLM.from_config(tiny_config("llama", 50))) is adapter
    )


def test_experts_of_the_language_model_are_selected() -> None:
    from transformers import Qwen3VLMoeConfig

    text = {
        "vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_experts": 4,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "moe_intermediate_size": 8,
    }  # fmt: skip
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            Qwen3VLMoeConfig(text_config=text, vision_config=vision)
        )
    names = PartNames(model)
    targets = restrict_targets(
        LoRA(target_modules="all"), model, names, {"language": "lora"}
    ).target_modules
    assert isinstance(targets, str)
    assert "gate_up_proj" in targets
    assert "language_model" in targets
    with pytest.raises(ConfigError):
        restrict_targets(LoRA(target_modules="experts"), model, names, {"vision": "lora"})
