"""Longer samples by another rotary embedding: the numbers are those of transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model, logits_of
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from xft.errors import ConfigError
from xft.export import convert
from xft.models import LoRA, ModelMetadata, load_saved_model, save_model
from xft.models.model_source import check_same_rope
from xft.models.rope import length_warning, set_rope_parameters, supported_length

YARN = {"rope_type": "yarn", "factor": 4.0}


def _scaled(parameters: dict[str, Any], **fields: Any) -> Any:
    config = Qwen3Config(max_position_embeddings=1024, rope_theta=1e6, **fields)
    set_rope_parameters(config, parameters)
    return config


@pytest.mark.parametrize(
    ("parameters", "positions"),
    [
        (YARN, 4096),
        ({"rope_type": "linear", "factor": 2.0}, 2048),
        ({"rope_type": "dynamic", "factor": 2.0}, 1024),
        (
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
            1024,
        ),
    ],
)
def test_frequencies_equal_those_of_a_config_of_transformers(
    parameters: dict[str, Any], positions: int
) -> None:
    config = _scaled(parameters)
    original = (
        {"original_max_position_embeddings": 1024}
        if config.rope_parameters["rope_type"]
        in (
            "yarn",
            "llama3",
        )
        else {}
    )
    expected = Qwen3Config(
        max_position_embeddings=positions, rope_parameters={"rope_theta": 1e6, **parameters, **original}
    )
    assert config.max_position_embeddings == positions
    compute = ROPE_INIT_FUNCTIONS[parameters["rope_type"]]
    frequencies, scaling = compute(config, torch.device("cpu"))
    expected_frequencies, expected_scaling = compute(expected, torch.device("cpu"))
    assert torch.equal(frequencies, expected_frequencies)
    assert scaling == expected_scaling
    plain = 1e6 ** -(torch.arange(0, 128, 2) / 128)
    assert (parameters["rope_type"] == "dynamic") == torch.allclose(frequencies, plain)


def test_scaling_a_scaled_model_keeps_its_original_length() -> None:
    config = _scaled(YARN)
    set_rope_parameters(config, YARN | {"factor": 8.0})
    assert config.max_position_embeddings == 8192
    assert config.rope_parameters["original_max_position_embeddings"] == 1024


def test_fields_of_the_model_remain() -> None:
    config = LlamaConfig(
        rope_parameters={"rope_theta": 5e5, "rope_type": "default", "mrope_section": [1, 2]}
    )
    set_rope_parameters(config, YARN)
    assert config.rope_parameters["rope_theta"] == 5e5
    assert config.rope_parameters["mrope_section"] == [1, 2]


@pytest.mark.parametrize(
    ("config", "parameters", "key"),
    [
        (GPT2Config(), YARN, "model.rope_parameters"),
        (LlamaConfig(), {"factor": 2.0}, "model.rope_parameters.rope_type"),
        (LlamaConfig(), {"rope_type": "yam", "factor": 2.0}, "model.rope_parameters.rope_type"),
        (LlamaConfig(), {"rope_type": "yarn"}, "model.rope_parameters"),
    ],
)
def test_parameters_that_do_not_fit_raise_config_error(config: Any, parameters: Any, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        set_rope_parameters(config, parameters)
    assert error.value.key == key


def test_loaded_model_computes_as_transformers_with_the_same_config(base: Path) -> None:
    config = AutoConfig.from_pretrained(base)
    length = config.max_position_embeddings
    config.rope_parameters |= {**YARN, "original_max_position_embeddings": length}
    config.max_position_embeddings = 4 * length
    expected = AutoModelForCausalLM.from_pretrained(base, config=config, dtype=torch.float32).eval()
    model = load_model(base, attn_implementation="sdpa", rope_parameters=YARN).eval()
    assert torch.equal(logits_of(model), logits_of(expected))
    assert not torch.equal(logits_of(model), logits_of(load_model(base, attn_implementation="sdpa").eval()))


def test_adapter_is_loaded_and_merged_with_its_rotary_embedding(
    base: Path, tmp_path: Path, make_byte_tokenizer: Any
) -> None:
    model = load_model(base, LoRA(r=2), rope_parameters=YARN).eval()
    for name, param in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(param, std=0.1)
    folder = tmp_path / "adapter"
    folder.mkdir()
    metadata = ModelMetadata(str(base), "float32", rope_parameters=YARN)
    save_model(model, make_byte_tokenizer(), None, metadata, folder)
    assert torch.equal(logits_of(load_saved_model(str(folder)).model), logits_of(model))
    convert(str(folder), str(tmp_path / "out"), merged=True, subprocess=False)
    torch.testing.assert_close(logits_of(load_saved_model(str(tmp_path / "out")).model), logits_of(model))
    check_same_rope(folder, dict(YARN))
    with pytest.raises(ConfigError) as error:
        check_same_rope(folder, None)
    assert error.value.key == "model.rope_parameters"


def test_longest_sample_beyond_the_positions_gives_a_line() -> None:
    config = Qwen3Config(max_position_embeddings=1024)
    assert length_warning(config, 1024) == []
    assert "factor=3" in length_warning(config, 2500)[0]
    set_rope_parameters(config, YARN)
    assert length_warning(config, 2500) == []
    assert length_warning(GPT2Config(n_positions=8), 9) != []


def test_dynamic_scaling_supports_its_factor() -> None:
    assert supported_length(_scaled({"rope_type": "dynamic", "factor": 2.0})) == 2048
