"""Adapters that vLLM refuses are recognized by their config."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.mapped_models import internlm2_config, write_checkpoint

from xft.export.vllm import vllm_note

PLAIN: dict[str, Any] = {
    "r": 16,
    "lora_alpha": 32,
    "bias": "none",
    "modules_to_save": None,
    "target_modules": ["q_proj", "v_proj"],
    "trainable_token_indices": None,
    "use_dora": False,
    "use_rslora": True,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def _note(folder: Path, **fields: Any) -> str | None:
    (folder / "adapter_config.json").write_text(json.dumps(PLAIN | fields))
    return vllm_note(folder)


def test_plain_adapter_needs_no_note(tmp_path: Path) -> None:
    assert _note(tmp_path) is None


@pytest.mark.parametrize(("rank", "option"), [(17, 32), (32, 32), (300, 320), (512, 512)])
def test_high_rank_needs_an_option(tmp_path: Path, rank: int, option: int) -> None:
    assert f"--max-lora-rank {option} " in (_note(tmp_path, r=rank) or "")


@pytest.mark.parametrize(
    "fields",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [7]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["model.embed_tokens"]},
        {"rank_pattern": {"q_proj": 4}},
        {"r": 1024},
    ],
)
def test_adapter_that_vllm_refuses_is_to_be_merged(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert "merge it for vLLM" in (_note(tmp_path, **fields) or "")


def test_adapter_of_a_base_with_other_layer_names_is_to_be_merged(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base", internlm2_config(8), {})
    assert "merge it for vLLM" in (_note(tmp_path, base_model_name_or_path=str(base)) or "")
