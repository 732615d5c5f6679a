"""Sampling parameters of a base: never applied by xft, always saved, and repaired where transformers would refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny
from transformers import GenerationConfig

from xft.models import LoRA, ModelMetadata, TextGenerator, save_model
from xft.models.generation_defaults import neutral_generation_config
from xft.templates import SOURCES, ChatTemplate
from xft.types import Message

QWEN = {
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "num_beams": 3,
    "min_p": 0.3,
    "do_sample": True,
}
"""Parameters of which each changes what is generated."""
VICUNA = {"temperature": 0.9, "top_p": 0.6}


@pytest.fixture
def base(tmp_path: Path, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path / "base", "llama", byte_tokenizer)


def _recommend(base: Path, fields: dict[str, Any]) -> Path:
    (base / "generation_config.json").write_text(json.dumps(fields))
    return base


def _answer(model: Any, tokenizer: Any, **options: float) -> list[int]:
    template = ChatTemplate(SOURCES["chatml"]).bind(tokenizer)
    torch.manual_seed(0)
    generator = TextGenerator(model, tokenizer, template)
    prompt = generator.encode([Message("user", "Hi")])
    return generator.generate([prompt], 24, **options)[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("adapter", [None, LoRA(r=2)])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_recommended_parameters_do_not_change_the_answer(
    base: Path, byte_tokenizer: Any, adapter: LoRA | None, temperature: float
) -> None:
    expected = _answer(load_model(base, adapter), byte_tokenizer, temperature=temperature)
    model = load_model(_recommend(base, QWEN), adapter)
    assert _answer(model, byte_tokenizer, temperature=temperature) == expected
    inner = model.get_base_model() if adapter is not None else model
    assert inner.generation_config.repetition_penalty == 5.0  # for those who load the saved model


def test_neutral_config_is_restored_after_an_error(base: Path) -> None:
    model = load_model(_recommend(base, QWEN))
    with pytest.raises(ValueError, match="max_new_tokens"), neutral_generation_config(model):
        model.generate(torch.ones(1, 2, dtype=torch.long), max_new_tokens=0)
    assert model.generation_config.repetition_penalty == 5.0


@pytest.mark.parametrize("with_template", [True, False])
@pytest.mark.parametrize("adapter", [None, LoRA(r=2)])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (VICUNA, VICUNA | {"do_sample": True}),
        (VICUNA | {"do_sample": False}, {}),
        (QWEN, QWEN),
        (VICUNA | {"length_penalty": 2.0, "early_stopping": True}, VICUNA | {"do_sample": True}),
        (VICUNA | {"pad_token_id": -1}, {}),
    ],
)
def test_saved_config_is_valid_and_recommends_what_the_base_does(
    base: Path,
    tmp_path: Path,
    byte_tokenizer: Any,
    adapter: LoRA | None,
    with_template: bool,
    fields: dict[str, Any],
    expected: dict[str, Any],
) -> None:
    model = load_model(_recommend(base, fields), adapter)
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer) if with_template else None
    out = tmp_path / "out"
    out.mkdir()
    save_model(model, byte_tokenizer, template, ModelMetadata("base", "float32"), out)
    file = out / "generation_config.json"
    if adapter is not None and not with_template:
        assert not file.exists()
        return
    saved = json.loads(file.read_text())
    known = {*QWEN, *VICUNA, "length_penalty"}
    assert {name: value for name, value in saved.items() if name in known and value} == expected
    GenerationConfig.from_pretrained(out).validate(strict=True)
    if with_template:
        end = byte_tokenizer.convert_tokens_to_ids("<|im_end|>")
        assert saved["eos_token_id"][0] == end
        if adapter is None:
            assert json.loads((out / "config.json").read_text())["eos_token_id"] == saved["eos_token_id"]


def test_head_gets_contiguous_states_during_generation_only(base: Path, byte_tokenizer: Any) -> None:
    """The last states of several prompts are a slice of the states of all tokens."""
    model, contiguous = load_model(base), []
    model.lm_head.register_forward_hook(lambda _, inputs, __: contiguous.append(inputs[0].is_contiguous()))
    generator = TextGenerator(model, byte_tokenizer, ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer))
    generator.generate([[5, 6, 7], [8, 9, 10]], 2)
    assert contiguous == [True, True]
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 7], [8, 9, 10]]), logits_to_keep=1)
    assert contiguous[2:] == [False]
