from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.tiny import save_tiny, tiny_config
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, PretrainedConfig, RwkvConfig
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv

from xft.errors import ModelError
from xft.models import ATTN_IMPLEMENTATION, LoadedModel, loading
from xft.models.checks.attention_checks import choose_attention
from xft.models.checks.measure import AttentionCheck
from xft.models.loading import (
    choose_dtype,
    load_config,
    load_tokenizer,
    load_weights,
    resize_embeddings,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", "llama", byte_tokenizer, torch.bfloat16)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32"])
def test_choose_dtype_by_name_returns_it_on_any_device(name: str) -> None:
    assert choose_dtype(name, CPU) == getattr(torch, name)


@pytest.mark.parametrize(
    ("machine", "avx512", "amx", "onednn", "dtype"),
    [
        ("x86_64", True, False, True, torch.bfloat16),
        ("AMD64", False, True, True, torch.bfloat16),
        ("x86_64", False, False, True, torch.float32),  # emulated
        ("aarch64", False, False, True, torch.bfloat16),
        ("arm64", False, False, False, torch.float32),
    ],
)
def test_choose_dtype_auto_on_cpu_depends_on_bf16_instructions(
    machine: str, avx512: bool, amx: bool, onednn: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    assert choose_dtype("auto", CPU) == dtype


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_choose_dtype_auto_on_gpu_depends_on_native_bf16(
    native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or native
    )
    assert choose_dtype("auto", torch.device("cuda")) == dtype


def test_load_weights_casts_parameters_and_selects_own_attention(folder: Path) -> None:
    model = load_weights(str(folder), torch.float32)
    assert {param.dtype for param in model.parameters()} == {torch.float32}
    assert model.config._attn_implementation == ATTN_IMPLEMENTATION
    assert load_weights(str(folder), "auto", "sdpa").dtype == torch.bfloat16
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in plain.state_dict().items())


def test_tokenizer_without_padding_token_pads_with_eos(tmp_path: Path, make_byte_tokenizer: Any) -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.pad_token_id == loaded.eos_token_id


@pytest.mark.parametrize("load", [load_config, load_tokenizer, lambda path: load_weights(path, "auto")])
def test_empty_folder_raises_model_error_in_one_line(load: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        load(str(tmp_path))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("extra", [5, 0, -5])
def test_resize_embeddings_grows_and_never_shrinks(extra: int, make_byte_tokenizer: Any) -> None:
    tokenizer = make_byte_tokenizer()
    rows = len(tokenizer) - extra
    model = AutoModelForCausalLM.from_config(tiny_config("llama", rows))
    before = model.get_input_embeddings().weight.detach().clone()
    resize_embeddings(model, tokenizer)
    after = model.get_input_embeddings().weight
    assert len(after) == max(rows, len(tokenizer))
    assert torch.equal(after[:rows], before)


def test_layers_with_a_state_are_packed_by_samples_or_padded() -> None:
    recurrent = RwkvConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2)
    options = {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "hidden_size": 16,
        "intermediate_size": 16,
    }
    layer_types = ["conv", "full_attention"]
    hybrid = AutoConfig.for_model(
        "lfm2", vocab_size=9, num_hidden_layers=2, layer_types=layer_types, **options
    )
    for config, packs, splits in (
        (tiny_config("llama", 9), True, True),
        (recurrent, False, False),
        (hybrid, True, False),
    ):
        model = AutoModelForCausalLM.from_config(config, attn_implementation=choose_attention(config))
        loaded = LoadedModel(model, None)  # type: ignore[arg-type]
        assert (loaded.supports_packing, not loaded.split_problem) == (packs, splits), config.model_type
        loaded.check_batches()
    assert "Lfm2ShortConv" in loaded.split_problem
    assert type(model.model.layers[0].conv).forward is not Lfm2ShortConv.forward


def test_model_whose_padded_batches_are_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = AttentionCheck(single_error=0.0, packed_error=0.3, padded_error=0.2)
    monkeypatch.setattr(loading, "check_attention", lambda config, attention: wrong)
    loaded = LoadedModel(AutoModelForCausalLM.from_config(tiny_config("llama", 9)), None)  # type: ignore[arg-type]
    with pytest.raises(ModelError) as caught:
        loaded.check_batches()
    assert (caught.value.key, caught.value.got) == ("model.path", "llama")


def test_packing_problem_says_whether_it_was_measured() -> None:
    recurrent = RwkvConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2)
    loaded = LoadedModel(AutoModelForCausalLM.from_config(recurrent), None)  # type: ignore[arg-type]
    assert "as measured" in loaded.packing_problem
    loaded.base.config = PretrainedConfig()
    assert "not measured" in loaded.packing_problem


def test_load_weights_refuses_a_bidirectional_model_before_its_weights(tmp_path: Path) -> None:
    BertConfig(
        hidden_size=16, num_attention_heads=2, num_hidden_layers=1, intermediate_size=16
    ).save_pretrained(tmp_path)
    with pytest.raises(ModelError) as error:
        load_weights(str(tmp_path), "auto", kind="causal_lm")
    assert error.value.got == "bert"


def test_local_base_is_named_by_its_absolute_path(
    tmp_path: Path, byte_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "base", "llama", byte_tokenizer)
    monkeypatch.chdir(tmp_path)
    assert load_weights("base", torch.float32).name_or_path == str(tmp_path / "base")
