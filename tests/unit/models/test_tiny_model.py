"""Tiny models keep each kind of layer of a config, in small sizes."""

import pytest
import torch
from transformers import Gemma4TextConfig, LlamaConfig, LlamaForCausalLM, PretrainedConfig, Qwen3NextConfig

from xft.models import tiny_model
from xft.models.tiny_model import build_tiny_model, tiny_config


def _llama(**options: object) -> PretrainedConfig:
    sizes = {
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 32,
    }
    return LlamaConfig(**{**sizes, **options})  # type: ignore[arg-type]


def test_tiny_config_keeps_head_width_and_grouping() -> None:
    small = tiny_config(
        _llama(head_dim=128, vocab_size=128_256, bos_token_id=128_000, eos_token_id=[128_001, 128_009])
    )
    assert (small.head_dim, small.hidden_size, small.num_hidden_layers) == (128, 512, 4)
    assert (small.num_attention_heads, small.num_key_value_heads) == (4, 2)
    assert (small.vocab_size, small.bos_token_id, small.eos_token_id) == (128, 127, None)


def test_tiny_config_of_multi_head_attention_has_a_key_per_query_head() -> None:
    small = tiny_config(_llama(num_key_value_heads=32))
    assert small.num_key_value_heads == small.num_attention_heads == 4


def test_tiny_config_keeps_the_first_layer_of_each_kind() -> None:
    kinds = ["linear_attention"] * 7 + ["full_attention"]
    small = tiny_config(Qwen3NextConfig(num_hidden_layers=8, layer_types=kinds))
    assert small.layer_types == ["linear_attention"] * 3 + ["full_attention"]


def test_tiny_config_renumbers_options_of_single_layers() -> None:
    config = Gemma4TextConfig()
    assert {int(layer) for layer in config.to_dict()["per_layer_config"]} == {5, 11, 17, 23, 29}
    small = tiny_config(config)
    assert small.layer_types == ["sliding_attention"] * 3 + ["full_attention"]
    assert {int(layer) for layer in small.to_dict()["per_layer_config"]} == {3}


def test_build_tiny_model_leaves_the_global_random_state() -> None:
    before = torch.get_rng_state()
    build_tiny_model(LlamaForCausalLM, tiny_config(_llama()), "eager")
    assert torch.equal(torch.get_rng_state(), before)


def test_build_tiny_model_gives_the_same_weights_for_each_attention() -> None:
    small = tiny_config(_llama())
    one, two = (build_tiny_model(LlamaForCausalLM, small, attention) for attention in ("eager", "sdpa"))
    assert one.config._attn_implementation != two.config._attn_implementation
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_build_tiny_model_refuses_a_class_whose_sizes_stay_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_model, "MAX_PARAMS", 1000)
    with pytest.raises(ValueError, match="parameters"):
        build_tiny_model(LlamaForCausalLM, tiny_config(_llama()), "eager")
