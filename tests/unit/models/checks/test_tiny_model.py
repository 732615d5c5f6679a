"""Tiny models are built in fp64 from a config alone."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from xft.models.checks import tiny_model
from xft.models.checks.tiny_config import tiny_config
from xft.models.checks.tiny_model import build_tiny_model, double_precision

CONFIG = LlamaConfig(hidden_size=256, num_attention_heads=8, num_key_value_heads=4)


def test_build_tiny_model_leaves_the_global_random_state() -> None:
    before = torch.get_rng_state()
    build_tiny_model(LlamaForCausalLM, tiny_config(CONFIG), "eager")
    assert torch.equal(torch.get_rng_state(), before)


def test_build_tiny_model_gives_the_same_weights_for_each_attention() -> None:
    small = tiny_config(CONFIG)
    one, two = (build_tiny_model(LlamaForCausalLM, small, attention) for attention in ("eager", "sdpa"))
    assert one.config._attn_implementation != two.config._attn_implementation
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_build_tiny_model_refuses_a_class_whose_sizes_stay_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model, "MAX_PARAMS", 1000)
    with pytest.raises(ValueError, match="parameters"):
        build_tiny_model(LlamaForCausalLM, tiny_config(CONFIG), "eager")


def test_double_precision_computes_in_fp64_where_a_model_asks_for_fp32() -> None:
    states = torch.randn(3, dtype=torch.float64)
    with double_precision():
        results = [
            states.float(), states.to(torch.float32), states.to(dtype=torch.float32), torch.zeros(1),
            torch.softmax(states, dim=0, dtype=torch.float32), states.type(torch.float32),
        ]  # fmt: skip
    assert {result.dtype for result in results} == {torch.float64}
    assert torch.zeros(1).dtype is torch.float32
