"""Errors of a tiny model in each layout."""

import pytest
from transformers import GptOssConfig, GptOssForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks.family_merge import family_config
from xft.models.attention import ATTN_IMPLEMENTATION
from xft.models.checks.attention_checks import check_attention, choose_attention
from xft.models.checks.measure import AttentionCheck, measure
from xft.models.segments import SegmentedClass

SMALL = {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64, "head_dim": 16}


def test_measure_in_fp64_leaves_nothing_but_rounding() -> None:
    check = measure(LlamaForCausalLM, LlamaConfig(**SMALL), ATTN_IMPLEMENTATION)  # type: ignore[arg-type]
    errors = (
        check.single_error,
        check.packed_error,
        check.padded_error,
        check.left_padded_error,
        check.cached_error,
    )
    assert max(errors) < 1e-12
    assert check.causal
    assert not check.problem


def test_leak_is_many_orders_above_rounding() -> None:
    check = measure(GptOssForCausalLM, GptOssConfig(**SMALL), "eager")  # type: ignore[arg-type]
    assert check.padded_error < 1e-12
    assert check.packed_error > 1e-3


@pytest.mark.parametrize(
    ("family", "caches"),
    [("mamba", True), ("lfm2", True), ("falcon_h1", True), ("xlstm", False), ("recurrent_gemma", False)],
)
def test_cache_that_holds_all_states_changes_no_logit(family: str, caches: bool) -> None:
    """Recurrent Gemma keeps states in its modules, and xLSTM has a cache of its own class."""
    config = family_config(family)
    check = check_attention(config, choose_attention(config))
    assert check.exact
    assert check.caches is caches


def test_check_is_the_same_after_json() -> None:
    check = AttentionCheck(0.0, 1.0, 2.0, 3.0, 4.0, False, (SegmentedClass("A", True),), "why")
    assert AttentionCheck.from_json(check.to_json()) == check


def test_model_that_is_not_measured_is_generated_in_batches() -> None:
    assert AttentionCheck(problem="not measured").pads_left
    assert not AttentionCheck(single_error=0.0, left_padded_error=0.5).pads_left
