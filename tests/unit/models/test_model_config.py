from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import save_tiny
from peft import PeftModel

from xft.errors import ConfigError
from xft.models import NF4, CausalLMConfig, LoadedModel, LoRA, RewardModelConfig, check_quantization
from xft.models.model_options import model_options

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", "llama", byte_tokenizer)


def _load(config: CausalLMConfig, adapter: LoRA | None = None) -> LoadedModel:
    return config.load(config.load_tokenizer(), CPU, adapter)


@pytest.mark.parametrize("alpha", [0, -1.0])
def test_neftune_alpha_of_zero_raises_config_error(alpha: float) -> None:
    with pytest.raises(ConfigError) as error:
        CausalLMConfig("x", neftune_alpha=alpha)
    assert (error.value.key, error.value.got) == ("model.neftune_alpha", alpha)


def test_load_sets_options_of_the_model(folder: Path) -> None:
    config = CausalLMConfig(str(folder), dtype="float32", neftune_alpha=5.0)
    options = model_options(_load(config).model)
    assert (options.fused_kernels, options.neftune_alpha, options.linear_head) == (True, 5.0, True)
    plain = CausalLMConfig(str(folder), dtype="float32", fused_kernels=False)
    options = model_options(_load(plain).model)
    assert (options.fused_kernels, options.neftune_alpha, options.linear_head) == (False, None, None)


def test_load_disables_the_cache_and_checkpoints_layers_only_if_asked(folder: Path) -> None:
    for value in ("auto", False, True):
        loaded = _load(CausalLMConfig(str(folder), dtype="float32", gradient_checkpointing=value))
        assert loaded.base.is_gradient_checkpointing is (value is True)
        assert loaded.base.config.use_cache is False


def test_adapter_names_a_base_that_is_valid_from_any_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    loaded = _load(CausalLMConfig(folder.name, dtype="float32"), LoRA(r=2))
    assert isinstance(loaded.model, PeftModel)
    assert loaded.model.peft_config["default"].base_model_name_or_path == str(folder)


def test_additional_special_tokens_get_trainable_embeddings(folder: Path) -> None:
    config = CausalLMConfig(str(folder), dtype="float32", additional_special_tokens=["<|a|>", "<|b|>"])
    tokenizer = config.load_tokenizer()
    ids = [tokenizer.convert_tokens_to_ids(name) for name in ("<|a|>", "<|b|>")]
    assert ids == [len(tokenizer) - 2, len(tokenizer) - 1]
    assert tokenizer("x<|b|>", add_special_tokens=False)["input_ids"][-1] == ids[1]
    loaded = config.load(tokenizer, CPU, LoRA(r=2))
    assert len(loaded.base.get_input_embeddings().weight) == len(tokenizer)
    peft_config: Any = loaded.model.peft_config["default"]
    assert peft_config.trainable_token_indices == ids


def test_tokenizer_of_another_folder_is_used(
    folder: Path, tmp_path: Path, make_byte_tokenizer: Any
) -> None:
    make_byte_tokenizer(specials=("<|other|>",)).save_pretrained(tmp_path)
    tokenizer = CausalLMConfig(str(folder), tokenizer=str(tmp_path)).load_tokenizer()
    assert len(tokenizer("<|other|>", add_special_tokens=False)["input_ids"]) == 1


def test_reward_model_config_loads_one_score(folder: Path) -> None:
    loaded = _load(RewardModelConfig(str(folder), dtype="float32"))
    assert loaded.base.config.num_labels == 1
    assert model_options(loaded.model).linear_head is None


def test_check_quantization_needs_an_adapter_that_does_not_decompose_the_base() -> None:
    check_quantization(LoRA(), NF4())
    check_quantization(None, None)
    for adapter, key, got in (
        (None, "quantization", "NF4"),
        (LoRA(init_lora_weights="olora"), "adapter.init_lora_weights", "olora"),
    ):
        with pytest.raises(ConfigError) as error:
            check_quantization(adapter, NF4())
        assert (error.value.key, error.value.got) == (key, got)
