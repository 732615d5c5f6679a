from typing import Any

import pytest
from helpers.preferences import reward_model
from helpers.tiny import tiny_config
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedModel

from xft.errors import ConfigError
from xft.export.gguf import architectures
from xft.export.gguf.architectures import DTYPES, check_supported, embedding_rows


def _model(rows: int, family: str = "llama", **changes: Any) -> PreTrainedModel:
    config = tiny_config(family, rows)
    for name, value in changes.items():
        setattr(config, name, value)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


@pytest.mark.parametrize("family", ["llama", "qwen3", "internlm3"])
@pytest.mark.parametrize("gguf_type", DTYPES)
def test_supported_model_passes(family: str, gguf_type: str, byte_tokenizer: Any) -> None:
    model = _model(len(byte_tokenizer) + 8, family)
    check_supported(model, byte_tokenizer, gguf_type)
    assert embedding_rows(model) == len(byte_tokenizer) + 8


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"use_sliding_window": True}, "use_sliding_window=True"),
        ({"attention_bias": True}, "a Llama model with biases"),
        ({"mlp_bias": True}, "a Llama model with biases"),
    ],
)
def test_model_that_readers_run_differently_raises_config_error(
    changes: dict[str, Any], got: str, byte_tokenizer: Any
) -> None:
    with pytest.raises(ConfigError) as error:
        check_supported(_model(len(byte_tokenizer), **changes), byte_tokenizer, "f16")
    assert (error.value.key, error.value.got) == ("--gguf", got)


def test_scaled_rotary_embedding_raises_config_error(byte_tokenizer: Any) -> None:
    model = _model(len(byte_tokenizer))
    model.config.rope_parameters = {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}
    with pytest.raises(ConfigError) as error:
        check_supported(model, byte_tokenizer, "f16")
    assert error.value.got == "rope_type 'yarn'"


def test_unknown_architecture_type_and_reward_model_raise_config_error(byte_tokenizer: Any) -> None:
    gpt2 = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=300, n_embd=8, n_layer=1, n_head=1))
    for model, gguf_type, got in (
        (gpt2, "f16", "model_type 'gpt2'"),
        (_model(300), "q4_0", "q4_0"),
        (reward_model(), "f16", "a reward model"),
    ):
        with pytest.raises(ConfigError) as error:
            check_supported(model, byte_tokenizer, gguf_type)
        assert (error.value.key, error.value.got) == ("--gguf", got)


def test_missing_package_raises_config_error(byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        check_supported(_model(300), byte_tokenizer, "f16")
    assert error.value.key == "--gguf"
    assert "requirements/gguf.txt" in error.value.fix
