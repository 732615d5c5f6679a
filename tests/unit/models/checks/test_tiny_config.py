"""Tiny configs keep each kind of layer of a config, in small sizes."""

from transformers import (
    BambaConfig,
    Gemma4TextConfig,
    GraniteMoeHybridConfig,
    JambaConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen3NextConfig,
    Zamba2Config,
)

from xft.models.checks.tiny_config import tiny_config


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
    assert (small.head_dim, small.hidden_size, small.num_hidden_layers) == (128, 512, 2)
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
    assert small.layer_types == ["sliding_attention", "full_attention"]
    assert {int(layer) for layer in small.to_dict()["per_layer_config"]} == {1}


def test_tiny_config_keeps_attention_layers_among_those_with_a_state() -> None:
    assert tiny_config(BambaConfig(attn_layer_indices=[9, 18])).attn_layer_indices == [1]
    assert "attention" in tiny_config(JambaConfig()).layers_block_type
    assert tiny_config(Zamba2Config()).layers_block_type.count("hybrid") == 2


def test_tiny_config_of_a_state_space_model_has_heads_that_divide_its_width() -> None:
    # Granite 4.0 Micro: 128 heads of 40, which is no divisor of the width of a tiny model
    small = tiny_config(GraniteMoeHybridConfig(hidden_size=2560, num_attention_heads=40))
    assert small.mamba_n_heads * small.mamba_d_head == small.mamba_expand * small.hidden_size
