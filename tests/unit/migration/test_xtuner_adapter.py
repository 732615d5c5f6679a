"""Adapters and quantization of XTuner."""

from typing import Any

import pytest

from xft.migration.arguments import Arguments
from xft.migration.draft import CHANGED, Draft
from xft.migration.python_values import Name
from xft.migration.xtuner_adapter import import_lora, import_quantization


def read(values: dict[str, Any]) -> Draft:
    draft = Draft("XTuner")
    model = Arguments(draft, values, "model.")
    import_quantization(model.section("llm"))
    import_lora(model)
    return draft


def test_defaults_are_those_of_peft() -> None:
    adapter = read({"lora": {"type": Name("LoraConfig"), "r": 4, "use_dora": True}}).get("adapter")
    expected = {
        "type": "lora",
        "r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "target_modules": "all-linear",
    }
    assert adapter == {**expected, "use_dora": True}


def test_a_model_without_adapter_has_none() -> None:
    assert read({}).has("adapter")
    assert read({}).get("adapter") is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"load_in_4bit": True}, {"type": "nf4", "double_quant": False}),
        ({"load_in_4bit": True, "bnb_4bit_use_double_quant": True}, {"type": "nf4", "double_quant": True}),
        ({"load_in_8bit": True}, {"type": "int8"}),
        ({"load_in_8bit": False}, None),
    ],
)
def test_quantization_has_bits_and_double_quantization(options: dict[str, Any], expected: object) -> None:
    assert read({"llm": {"quantization_config": options}}).get("quantization") == expected


def test_fp4_becomes_nf4_and_is_listed() -> None:
    options = {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}
    entries = read({"llm": {"quantization_config": options}}).entries
    assert [entry.kind for entry in entries if entry.key.endswith("quant_type")] == [CHANGED]
