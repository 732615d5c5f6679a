from pathlib import Path
from typing import Any

import pytest
from helpers.mapped_models import internlm2_config, internlm2_weights, write_checkpoint
from helpers.models import load_model
from transformers import LlamaForCausalLM

from xft.errors import ConfigError
from xft.export.layout import apply_layout, check_layout
from xft.models import LoadedModel, LoRA


@pytest.fixture(scope="module")
def internlm2(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    size = len(byte_tokenizer)
    folder = tmp_path_factory.mktemp("internlm2")
    return write_checkpoint(folder, internlm2_config(size), internlm2_weights(size), byte_tokenizer)


def test_layout_llama_of_mapped_model_is_a_plain_llama(internlm2: Path) -> None:
    model = load_model(internlm2)
    check_layout("llama", LoadedModel(model, None), merged=False)
    assert type(apply_layout("llama", model)) is LlamaForCausalLM
    assert apply_layout("original", model) is model


def test_layout_llama_of_an_adapter_requires_merge(internlm2: Path) -> None:
    model = load_model(internlm2, LoRA(r=2))
    check_layout("llama", LoadedModel(model, None), merged=True)
    with pytest.raises(ConfigError) as error:
        check_layout("llama", LoadedModel(model, None), merged=False)
    assert (error.value.key, error.value.got) == ("--layout", "an adapter")


def test_layout_llama_of_a_family_of_transformers_raises(internlm2: Path, tmp_path: Path) -> None:
    apply_layout("llama", load_model(internlm2)).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((internlm2 / "tokenizer.json").read_bytes())
    loaded = LoadedModel(load_model(tmp_path), None)
    check_layout("original", loaded, merged=False)
    with pytest.raises(ConfigError) as error:
        check_layout("llama", loaded, merged=False)
    assert error.value.got == "llama for model_type 'llama'"
