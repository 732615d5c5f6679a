"""Models read by rows on several ranks are those that one process reads in full, quantized and converted ones too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.loading_by_rows import compare_on_ranks
from helpers.mixtures import mixture
from helpers.stored_formats import store
from helpers.tiny import save_tiny

from xft.models import NF4
from xft.models.loading import load_weights

FAMILIES = ("qwen3_moe", "gpt_oss", "llama4_text")
JOBS: list[tuple[str, dict[str, Any] | None, tuple[int, ...]]] = [
    ("dense", None, (2,)),
    ("dense", {}, (2, 3)),
    ("dense", {"double_quant": False, "quant_storage": "bfloat16"}, (2,)),
    ("fp8", {}, (2,)),
    ("bitsandbytes", None, (3,)),
    ("qwen3_moe", None, (2, 3)),
    ("qwen3_moe", {}, (2, 3)),
    ("gpt_oss", {}, (3,)),
    ("llama4_text", {}, (2,)),
]
"""Folder, options of NF4, and numbers of ranks."""


@pytest.fixture(scope="module")
def folder(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loading")
    save_tiny(folder / "dense", "llama", tiny_tokenizer)
    store(folder / "dense", folder / "fp8", "fp8")
    quantized = load_weights(
        str(folder / "dense"), torch.float32, quantization=NF4(), device=torch.device("cpu")
    )
    quantized.save_pretrained(folder / "bitsandbytes")
    for family in FAMILIES:
        mixture(family).save_pretrained(folder / family)
    return folder


@pytest.mark.parametrize("ranks", [2, 3])
def test_models_read_by_rows_are_those_read_in_full(folder: Path, ranks: int) -> None:
    """On three ranks, rows of most weights do not start at blocks, and the last rank has no experts."""
    jobs = [
        {
            "path": str(folder / name),
            "nf4": nf4,
            "adapter": {"target_modules": "all" if name in FAMILIES else "all-linear"},
        }
        for name, nf4, numbers in JOBS
        if ranks in numbers
    ]
    _check(folder, jobs, ranks)


OPTIONS: list[dict[str, Any]] = [
    {"adapter": {"use_dora": True}},
    {"adapter": {"init_lora_weights": "pissa"}},
    {"adapter": {"init_lora_weights": "olora"}},
    {"adapter": {"modules_to_save": ["lm_head", "embed_tokens"]}},
    {"new_tokens": 2},
    {"new_tokens": 2, "nf4": {}},
    {"kind": "reward_model"},
    {"kind": "reward_model", "nf4": {}},
]


def test_adapters_and_heads_that_need_full_weights_gather_one_layer_at_a_time(folder: Path) -> None:
    _check(folder, [{"path": str(folder / "dense"), **options} for options in OPTIONS], 2)


def _check(folder: Path, jobs: list[dict[str, Any]], ranks: int) -> None:
    problems = compare_on_ranks(folder, jobs, ranks)
    assert [(job, texts) for job, texts in zip(jobs, problems, strict=True) if texts] == []
