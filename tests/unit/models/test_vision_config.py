"""Options of vision-language models: trained parts, their learning rates, and adapters."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.vision import FAMILIES, save_vision_model
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText

from xft.checkpoint.manifest import write_manifest
from xft.checkpoint.model_weights import load_model_weights
from xft.data import Collator
from xft.errors import ConfigError, ModelError
from xft.models import NF4, CausalLMConfig, LoRA, VisionLanguageConfig, target_loss
from xft.models.adapters.full_modules import upcast_full_modules
from xft.models.vision.parts import PartNames
from xft.models.vision.processor import VisionProcessor
from xft.optim.param_groups import param_groups
from xft.types import IGNORE_INDEX, Sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA."""
    return save_vision_model(tmp_path_factory.mktemp("model"), "llava")


def load(folder: Path, adapter: LoRA | None = None, **options: Any) -> Any:
    """A model as a config declares it."""
    torch.manual_seed(0)
    spec = VisionLanguageConfig(str(folder), **{"dtype": "float32", **options})
    return spec.load(spec.load_tokenizer(), torch.device("cpu"), adapter)


def trained_parts(loaded: Any) -> set[str]:
    """Parts with a trainable parameter."""
    names = PartNames(loaded.base)
    return {
        names.part_of(name.removeprefix("base_model.model."))
        for name, param in loaded.model.named_parameters()
        if param.requires_grad
    }


@pytest.mark.parametrize(
    ("train", "adapter", "parts"),
    [
        ({}, True, {"language"}),
        ({"projector": "full"}, True, {"language", "projector"}),
        ({"vision": "lora"}, True, {"language", "vision"}),
        ({"vision": "full", "projector": "full"}, True, {"language", "vision", "projector"}),
        ({"vision": "lora", "projector": "lora", "language": "frozen"}, True, {"vision", "projector"}),
        ({}, False, {"language"}),
        ({"language": "frozen", "projector": "full"}, False, {"projector"}),
        ({"vision": "full", "projector": "full"}, False, {"vision", "projector", "language"}),
    ],
)
def test_parts_are_trained_as_the_config_says(
    folder: Path, train: dict[str, str], adapter: bool, parts: set[str]
) -> None:
    assert trained_parts(load(folder, LoRA(r=2) if adapter else None, train=train)) == parts


def test_names_of_layers_reach_the_language_model_alone(folder: Path) -> None:
    loaded = load(folder, LoRA(r=2, target_modules=["q_proj", "v_proj"]))
    adapted = [name for name, _ in loaded.model.named_parameters() if "lora_A" in name]
    assert len(adapted) == 4
    assert all(".language_model." in name for name in adapted)


def test_layer_outside_of_the_trained_parts_raises(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, LoRA(r=2, target_modules=["linear_1"]))
    assert caught.value.key == "adapter.target_modules"


def test_part_has_a_learning_rate_of_its_own(folder: Path) -> None:
    options = {"train": {"projector": "full"}, "lr": {"projector": 1e-3}}
    for adapter in (LoRA(r=2), None):
        loaded = load(folder, adapter, **options)
        groups = param_groups(loaded.model)
        rates = {id(param): group.get("lr") for group in groups for param in group["params"]}
        names = PartNames(loaded.base)
        for name, param in loaded.model.named_parameters():
            if param.requires_grad:
                part = names.part_of(name.removeprefix("base_model.model."))
                assert rates[id(param)] == (1e-3 if part == "projector" else None)
        assert sum(len(group["params"]) for group in groups) == len(rates)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"neftune_alpha": 5.0}, "model.neftune_alpha"),
        ({"train": {"eyes": "full"}}, "model.train.eyes"),
        ({"lr": {"eyes": 1e-3}}, "model.train.eyes"),
    ],
)
def test_wrong_option_raises(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        VisionLanguageConfig("x", **options)
    assert caught.value.key == key


def test_text_model_is_refused(tmp_path: Path, byte_tokenizer: Any) -> None:
    from helpers.tiny import save_tiny

    folder = save_tiny(tmp_path, "llama", byte_tokenizer)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert caught.value.fix == "set model.type='causal_lm'"
    assert CausalLMConfig(str(folder)).load_processor(byte_tokenizer) is None


def text_sample(text: str, processor: VisionProcessor) -> Sample:
    """A text of which every token but the first is a target."""
    sample = processor.sample(text, [])
    labels = sample.input_ids.copy()
    labels[0] = IGNORE_INDEX
    return Sample(sample.input_ids, labels)


def test_vision_language_model_is_no_language_model(folder: Path) -> None:
    spec = CausalLMConfig(str(folder))
    with pytest.raises(ModelError) as error:
        spec.load(spec.load_tokenizer(), torch.device("cpu"))
    assert error.value.key == "model.path"
    assert "vision_language" in error.value.fix


def test_batch_of_texts_gives_the_projector_a_zero_gradient(folder: Path) -> None:
    """DDP and ZeRO wait for the gradient of each trainable parameter."""
    loaded = load(folder, train={"projector": "full"})
    processor = loaded.processor
    assert isinstance(processor, VisionProcessor)
    samples = [text_sample("one two three", processor), text_sample("four five", processor)]
    for packing in (True, False):
        loaded.model.zero_grad()
        collator = Collator.for_model(loaded.tokenizer, packing, processor=processor)
        loss, _, count = target_loss(loaded.model.train(), collator.collate(samples, [0, 1]))
        loss.backward()
        gradients = [
            param.grad for name, param in loaded.model.named_parameters() if "multi_modal_projector" in name
        ]
        assert all(gradient is not None and not gradient.any() for gradient in gradients)
        plain = Collator.for_model(loaded.tokenizer, packing).collate(samples, [0, 1])
        expected, _, expected_count = target_loss(loaded.model, plain)
        assert count == expected_count
        torch.testing.assert_close(loss, expected)


def test_quantization_leaves_tower_and_projector_out(folder: Path) -> None:
    spec = VisionLanguageConfig(str(folder), dtype="float32")
    loaded = spec.load(spec.load_tokenizer(), torch.device("cpu"), LoRA(r=2), NF4())
    names = PartNames(loaded.base)
    quantized = [name for name, param in loaded.base.named_parameters() if param.dtype == torch.uint8]
    assert quantized
    assert {names.part_of(name) for name in quantized} == {"language"}
    assert trained_parts(loaded) == {"language"}


def test_frozen_parts_need_no_filler(folder: Path) -> None:
    assert load(folder).processor.filler is None


TOWER_FULL = {"vision": "full", "projector": "full"}


def trained_dtypes(loaded: Any) -> set[torch.dtype]:
    """The dtypes of the trainable parameters."""
    return {param.dtype for param in loaded.model.parameters() if param.requires_grad}


def vision_loss(loaded: Any) -> Tensor:
    """The loss of two samples with an image each."""
    samples = []
    for size in ((30, 40), (50, 20)):
        sample = loaded.processor.sample("what is this? ", [Image.linear_gradient("L").resize(size)])
        labels = sample.input_ids.copy()
        labels[:-5] = IGNORE_INDEX
        samples.append(Sample(sample.input_ids, labels, images=sample.images))
    collator = Collator.for_model(loaded.tokenizer, loaded.supports_packing, processor=loaded.processor)
    loss, _, _ = target_loss(loaded.model.train(), collator.collate(samples, range(2)))
    return loss


@pytest.mark.parametrize("family", FAMILIES)
def test_tower_and_projector_compute_in_bf16(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_vision_model(tmp_path / family, family)
    for adapter, train in ((LoRA(r=2), TOWER_FULL), (None, {**TOWER_FULL, "language": "frozen"})):
        losses = []
        for upcast in (lambda _: None, upcast_full_modules):
            for place in ("adapters.lora", "vision.vision_config"):
                monkeypatch.setattr(f"xft.models.{place}.upcast_full_modules", upcast)
            loaded = load(folder, adapter, train=train, dtype="bfloat16")
            losses.append(vision_loss(loaded))
            assert loaded.base.dtype == torch.bfloat16
        assert trained_dtypes(loaded) == {torch.float32}
        assert torch.equal(*losses)


@pytest.mark.parametrize("family", ["llava", "qwen2_5_vl"])
def test_parts_without_an_adapter_are_saved_and_resumed_in_fp32(tmp_path: Path, family: str) -> None:
    folder = save_vision_model(tmp_path / family, family)
    train = {**TOWER_FULL, "language": "frozen"}
    loaded, again = (load(folder, train=train, dtype="bfloat16") for _ in range(2))
    assert trained_dtypes(loaded) == {torch.float32}
    for param in loaded.model.parameters():
        if param.requires_grad:
            param.data += torch.rand_like(param) * 1e-4
    saved = tmp_path / "saved"
    loaded.model.save_pretrained(saved)
    write_manifest(saved)
    load_model_weights(again.model, saved)
    for one, two in zip(loaded.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
    opened = AutoModelForImageTextToText.from_pretrained(saved, dtype="auto")
    assert {param.dtype for param in opened.parameters()} == {torch.bfloat16}


def test_full_training_in_bf16_is_as_requested(tmp_path: Path) -> None:
    """All weights of a model in ``model.dtype='bfloat16'`` are trained in it, on one device."""
    folder = save_vision_model(tmp_path / "llava", "llava")
    loaded = load(folder, train={**TOWER_FULL, "language": "full"}, dtype="bfloat16")
    assert trained_dtypes(loaded) == {torch.bfloat16}
