"""``target_modules`` of a mixture-of-experts model selects what it says, in every family."""

import pytest
from helpers.mixtures import FAMILIES, mixture
from helpers.models import tiny_family
from helpers.tiny import tiny_config
from transformers import (
    AutoModelForCausalLM,
    BambaConfig,
    Mamba2Config,
    MambaConfig,
    PretrainedConfig,
    ZambaConfig,
)

from xft.errors import ConfigError
from xft.models import LoRA
from xft.models.adapters.targets import (
    find_targets,
    grouped_layers,
    shared_layers,
    shorten,
    weight_only_layers,
)

ATTENTION = {
    "deepseek_v3": {"kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "q_a_proj", "q_b_proj"},
    "qwen3_next": {"in_proj_ba", "in_proj_qkvz", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj"},
    "qwen3_5_moe_text": {
        *("in_proj_a", "in_proj_b", "in_proj_qkv", "in_proj_z", "out_proj"),
        *("q_proj", "k_proj", "v_proj", "o_proj"),
    },
}
SHARED = {"gate_proj", "up_proj", "down_proj"}
WITH_SHARED = {"qwen2_moe", "deepseek_v3", "llama4_text", "qwen3_next", "qwen3_5_moe_text"}


@pytest.mark.parametrize("family", FAMILIES)
def test_shorthands_select_the_same_parts_in_every_family(family: str) -> None:
    model = mixture(family)
    attention = ATTENTION.get(family, {"q_proj", "k_proj", "v_proj", "o_proj"})
    linear = attention | (SHARED if family in WITH_SHARED else set())
    expected = {
        "attention": (attention, set()),
        "all-linear": (linear, set()),
        "experts": (set(), {"gate_up_proj", "down_proj"}),
        "all": (linear, {"gate_up_proj", "down_proj"}),
    }
    for name, parts in expected.items():
        targets = find_targets(model, name)
        assert (set(targets.modules), set(targets.parameters)) == parts, name


def test_names_select_layers_experts_and_routers() -> None:
    targets = find_targets(mixture("qwen3_moe"), ["q_proj", "layers.0.mlp.experts.down_proj", "gate"])
    assert targets.modules == ["q_proj"]
    assert set(targets.parameters) == {"gate.weight", "model.layers.0.mlp.experts.down_proj"}
    targets = find_targets(mixture("qwen3_moe"), r".*\.(q_proj|gate_up_proj)")
    assert (targets.modules, targets.parameters) == (["q_proj"], ["gate_up_proj"])


def test_dense_model_keeps_names_and_has_no_experts() -> None:
    model = AutoModelForCausalLM.from_config(tiny_config("llama", 97))
    assert find_targets(model, "all-linear").modules == "all-linear"
    assert find_targets(model, "all").modules == "all-linear"
    assert find_targets(model, ["q_proj"]).modules == ["q_proj"]
    assert find_targets(model, "attention").modules == ["k_proj", "o_proj", "q_proj", "v_proj"]
    with pytest.raises(ConfigError) as error:
        find_targets(model, "experts")
    assert (error.value.key, error.value.got) == ("adapter.target_modules", "experts")


def test_shorten_keeps_paths_that_select_only_some_layers() -> None:
    every = ["a.0.q", "a.1.q", "b.0.q", "a.0.k", "a.1.k"]
    assert shorten(["a.0.k", "a.1.k"], every) == ["k"]
    assert shorten(["a.0.q", "b.0.q"], every) == ["0.q"]
    assert shorten(["a.0.q"], every) == ["a.0.q"]


@pytest.mark.parametrize(("option", "value"), [("use_dora", True), ("init_lora_weights", "olora")])
def test_variants_on_fused_experts_raise_config_error(option: str, value: object) -> None:
    adapter = LoRA(r=2, target_modules="all", **{option: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as error:
        adapter.apply(mixture("mixtral"), [])
    assert error.value.key == f"adapter.{option}"


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 97}


@pytest.mark.parametrize(
    ("config", "unused", "adapted"),
    [
        (MambaConfig(**SMALL), {"dt_proj", "out_proj", "x_proj"}, {"in_proj"}),
        (Mamba2Config(**SMALL, num_heads=4, head_dim=16), {"out_proj"}, {"in_proj"}),
        (
            BambaConfig(
                **SMALL, intermediate_size=32, attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=16
            ),
            {"out_proj"},
            {"in_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        ),
    ],
    ids=["mamba", "mamba2", "bamba"],
)
def test_layers_of_which_kernels_take_the_weight_alone_get_no_lora(
    config: PretrainedConfig, unused: set[str], adapted: set[str]
) -> None:
    model = AutoModelForCausalLM.from_config(config)
    assert {name.rpartition(".")[2] for name in weight_only_layers(model)} == unused
    assert set(find_targets(model, "all-linear").modules) == adapted
    LoRA(r=2).apply(model, [])
    for target_modules in (["out_proj"], r".*\.out_proj"):
        with pytest.raises(ConfigError) as error:
            find_targets(model, target_modules)
        assert error.value.key == "adapter.target_modules"
        assert str(error.value.got).endswith(".out_proj")


def test_layers_that_are_called_are_not_weight_only() -> None:
    """Linear attention has a convolution too; gates of experts and attention read the dtype of a weight."""
    assert weight_only_layers(mixture("qwen3_next")) == []
    assert weight_only_layers(AutoModelForCausalLM.from_config(tiny_config("llama", 97))) == []


def test_layers_that_share_a_weight_get_no_lora() -> None:
    config = ZambaConfig(
        **{**SMALL, "num_hidden_layers": 4}, intermediate_size=32, num_attention_heads=2, num_key_value_heads=2,
        attention_hidden_size=64, attention_head_dim=32, mamba_d_state=4, n_mamba_heads=2, mamba_dt_rank=4,
        layers_block_type=["linear_attention", "hybrid", "linear_attention", "hybrid"],
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    shared = shared_layers(model)
    assert {name.rpartition(".")[2] for name in shared} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    }
    assert len(shared) == 14
    targets = find_targets(model, "all-linear")
    assert targets.modules
    assert not any(name.endswith(end) for end in targets.modules for name in shared)
    with pytest.raises(ConfigError) as error:
        find_targets(model, ["q_proj"])
    assert error.value.key == "adapter.target_modules"


def test_layer_of_one_product_per_group_is_left_out_and_refused() -> None:
    model = tiny_family("deepseek_v4")
    grouped = grouped_layers(model)
    assert {name.rpartition(".")[2] for name in grouped} == {"o_a_proj"}
    assert "o_a_proj" not in find_targets(model, "all-linear").modules
    with pytest.raises(ConfigError):
        find_targets(model, ["o_a_proj"])
    assert grouped_layers(tiny_family("falcon")) == []  # a subclass that computes the same
