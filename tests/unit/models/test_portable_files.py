"""Saved files have the fields that version 4 of transformers reads, and version 5 reads the same model from them."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoTokenizer

from xft.models.portable_files import TOKENIZER_CLASS, make_portable

TEXTS = (
    "Hello  world\n\n\ttab 中文 🙂 don't I'LL <|im_start|>user\nhi<|im_end|> 1234567",
    " leading",
    "<s>x</s>",
    "",
)


def _fields(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "name",
    ["smollm2_tokenizer", "qwen3_tokenizer", "llama3_tokenizer", "internlm2_tokenizer", "byte_tokenizer"],
)
def test_tokenizer_config_has_fields_of_both_versions(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    tokenizer = request.getfixturevalue(name)
    tokenizer.save_pretrained(tmp_path)
    make_portable(tmp_path)
    fields = _fields(tmp_path / "tokenizer_config.json")
    assert fields["tokenizer_class"] == TOKENIZER_CLASS
    assert not fields.keys() & {"is_local", "local_files_only", "backend", "name_or_path"}
    assert not isinstance(fields.get("extra_special_tokens"), list)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in TEXTS:
        for special in (True, False):
            expected = tokenizer(text, add_special_tokens=special)["input_ids"]
            assert again(text, add_special_tokens=special)["input_ids"] == expected
    assert sorted(again.all_special_ids) == sorted(tokenizer.all_special_ids)
    assert again.chat_template == tokenizer.chat_template


def test_class_of_remote_code_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer_config.json"
    (tmp_path / "tokenizer.json").write_text("{}")
    file.write_text(json.dumps({"tokenizer_class": "Custom", "auto_map": {"AutoTokenizer": ["a.B", None]}}))
    make_portable(tmp_path)
    assert _fields(file)["tokenizer_class"] == "Custom"


LLAMA3 = {
    "rope_theta": 500000.0,
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}
ROPE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("qwen3", {"rope_theta": 1e6, "rope_type": "default"}, {"rope_theta": 1e6}),
    (
        "llama",
        LLAMA3,
        {"rope_theta": 500000.0, "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}},
    ),
    (
        "phi",
        {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.4},
        {"rope_theta": 1e4, "partial_rotary_factor": 0.4},
    ),
    (
        "gpt_neox",
        {"rope_theta": 1e5, "rope_type": "default", "partial_rotary_factor": 0.5},
        {"rope_theta": 1e5, "partial_rotary_factor": 0.5, "rotary_emb_base": 1e5, "rotary_pct": 0.5},
    ),
    (
        "gemma3_text",
        {
            "full_attention": {"rope_theta": 2e6, "rope_type": "linear", "factor": 8.0},
            "sliding_attention": {"rope_theta": 2e4, "rope_type": "default"},
        },
        {
            "rope_theta": 2e6,
            "rope_local_base_freq": 2e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
]


@pytest.mark.parametrize(("family", "parameters", "expected"), ROPE, ids=[row[0] for row in ROPE])
def test_rotary_parameters_have_names_of_both_versions(
    family: str, parameters: dict[str, Any], expected: dict[str, Any], tmp_path: Path
) -> None:
    config = AutoConfig.for_model(family, rope_parameters=parameters)
    config.save_pretrained(tmp_path)
    make_portable(tmp_path)
    assert expected.items() <= _fields(tmp_path / "config.json").items()
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == config.rope_parameters


@pytest.mark.parametrize("family", ["gemma4_text", "beam", "laguna", "olmo3", "mimo_v2_flash"])
def test_config_of_a_family_with_several_rotary_embeddings_reads_the_same(
    family: str, tmp_path: Path
) -> None:
    """Gemma 4 has a type that version 4 lacks, Beam layers without a rotary embedding."""
    config = AutoConfig.for_model(family)
    config.save_pretrained(tmp_path)
    make_portable(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).rope_parameters == config.rope_parameters


@pytest.mark.parametrize(("stop_ids", "expected"), [([7], 7), ([7, 8], [7, 8]), (None, 2)])
def test_stop_ids_replace_those_of_the_base(
    stop_ids: list[int] | None, expected: object, tmp_path: Path
) -> None:
    AutoConfig.for_model("llama", eos_token_id=2).save_pretrained(tmp_path)
    make_portable(tmp_path, stop_ids)
    assert _fields(tmp_path / "config.json")["eos_token_id"] == expected
    assert AutoConfig.from_pretrained(tmp_path).eos_token_id == expected


def test_stop_ids_of_the_text_decoder_are_replaced(tmp_path: Path) -> None:
    text = {"eos_token_id": 2, "rope_parameters": {"rope_theta": 5.0, "rope_type": "default"}}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text}))
    make_portable(tmp_path, [7])
    fields = _fields(tmp_path / "config.json")
    assert "eos_token_id" not in fields
    assert (fields["text_config"]["eos_token_id"], fields["text_config"]["rope_theta"]) == (7, 5.0)
