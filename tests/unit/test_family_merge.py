"""A merged adapter gives the same logits in plain transformers, for each mechanism; all families: ``make families``."""

import pytest
import torch

from benchmarks.family_merge import TOLERANCE, TOLERANCE_FP64, compare_merged, family_config


@pytest.mark.parametrize(
    ("family", "target_modules"),
    [
        ("llama", "all-linear"),
        ("gpt_oss", "all"),  # sinks, windows and experts
        ("deepseek_v3", "all-linear"),  # values narrower than keys
        ("qwen3_moe", "all"),
        ("bamba", "all-linear"),  # state-space layers, packed by samples
        ("gemma2", "all-linear"),  # soft caps
        ("gemma4_text", "all-linear"),  # several rotary embeddings
    ],
)
def test_merged_adapter_equals_plain_transformers(family: str, target_modules: str) -> None:
    merged = compare_merged(family_config(family), target_modules)
    assert merged.error < TOLERANCE
    assert merged.effect > 1000 * TOLERANCE
    assert merged.losses[-1] < merged.losses[0]


def test_layers_that_repeat_amplify_rounding_and_nothing_else() -> None:
    merged = compare_merged(family_config("hrm_text"), dtype=torch.float64)
    assert merged.error < TOLERANCE_FP64
    assert merged.effect > 1000 * TOLERANCE
