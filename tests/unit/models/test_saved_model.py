import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.generators import CHATML
from helpers.models import load_model
from peft import PeftModel

from xft.errors import CheckpointError, ModelError
from xft.models import LoRA, ModelMetadata, find_saved_model, load_saved_model, read_metadata, save_model
from xft.templates import BoundTemplate


@pytest.fixture(scope="module")
def adapter(base: Path, make_byte_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter as a run saves it."""
    folder = tmp_path_factory.mktemp("adapter")
    tokenizer = make_byte_tokenizer()
    model = load_model(base, LoRA(r=2))
    for name, param in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(param, std=0.1)
    metadata = ModelMetadata(str(base), "float32", system="Be brief.")
    save_model(model, tokenizer, BoundTemplate(tokenizer, CHATML), metadata, folder)
    return folder


@pytest.mark.parametrize("name", [".", "final", "checkpoints/last"])
def test_find_saved_model_looks_into_a_run_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").touch()
    assert find_saved_model(tmp_path) == folder.resolve()


def test_find_saved_model_prefers_the_final_model(tmp_path: Path) -> None:
    for name in ("checkpoints/last", "final"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    assert find_saved_model(tmp_path).name == "final"


@pytest.mark.parametrize("content", [None, "empty", "config.py"])
def test_find_saved_model_without_weights_raises_model_error(content: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if content is not None:
        folder.mkdir()
        (folder / content).touch()
    with pytest.raises(ModelError) as error:
        find_saved_model(folder)
    assert str(folder) in str(error.value)


def test_save_model_stores_template_stop_tokens_and_metadata(
    adapter: Path, make_byte_tokenizer: Any
) -> None:
    assert (adapter / "chat_template.jinja").read_text() == CHATML
    generation = json.loads((adapter / "generation_config.json").read_text())
    tokenizer = make_byte_tokenizer()
    expected = [tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.eos_token_id]
    assert generation["eos_token_id"] == expected
    metadata = read_metadata(adapter)
    assert metadata is not None
    assert (metadata.dtype, metadata.bits) == ("float32", None)


def test_save_model_restores_template_and_cache_setting(
    base: Path, make_byte_tokenizer: Any, tmp_path: Path
) -> None:
    tokenizer, model = make_byte_tokenizer(), load_model(base)
    before = model.config.use_cache
    save_model(model, tokenizer, BoundTemplate(tokenizer, CHATML), ModelMetadata("x", "float32"), tmp_path)
    assert (tokenizer.chat_template, model.config.use_cache) == (None, before)
    assert json.loads((tmp_path / "config.json").read_text())["use_cache"] is True


def test_load_saved_model_of_adapter_loads_its_base_and_tokenizer(base: Path, adapter: Path) -> None:
    loaded = load_saved_model(str(adapter))
    assert (loaded.system, load_saved_model(str(base)).system) == ("Be brief.", "")
    assert isinstance(loaded.model, PeftModel)
    assert loaded.tokenizer.chat_template == CHATML
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        on_top = load_saved_model(str(base), adapter=str(adapter))
        assert torch.equal(on_top.model(input_ids=ids).logits, loaded.model(input_ids=ids).logits)
        with loaded.model.disable_adapter():
            plain = load_saved_model(str(base), dtype="float32").model
            assert torch.equal(plain(input_ids=ids).logits, loaded.model(input_ids=ids).logits)


@pytest.mark.parametrize("swapped", [True, False])
def test_load_saved_model_with_two_adapters_or_two_models_raises_model_error(
    base: Path, adapter: Path, swapped: bool
) -> None:
    first, second = (adapter, adapter) if swapped else (base, base)
    with pytest.raises(ModelError):
        load_saved_model(str(first), adapter=str(second))


def test_load_saved_model_of_another_kind_raises_model_error(base: Path) -> None:
    with pytest.raises(ModelError) as error:
        load_saved_model(str(base), kind="reward_model")
    assert str(base) in str(error.value)


@pytest.mark.parametrize("bits", [4, 8])
def test_load_saved_model_quantizes_on_request(base: Path, bits: int) -> None:
    model: Any = load_saved_model(str(base), bits=bits).model
    weight = model.model.layers[0].self_attn.q_proj.weight
    assert type(weight).__name__ == {4: "Params4bit", 8: "Int8Params"}[bits]


@pytest.mark.parametrize("text", ["{", '{"base": "x"}', '{"base": "x", "dtype": "int4"}', '{"unknown": 1}'])
def test_broken_metadata_raises_checkpoint_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "xft_metadata.json").write_text(text)
    with pytest.raises(CheckpointError) as error:
        read_metadata(tmp_path)
    assert "xft_metadata.json" in str(error.value)


def test_folder_without_metadata_has_none(base: Path) -> None:
    assert read_metadata(base) is None
