import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from xft.errors import ConfigError, ModelError
from xft.models import LoRA
from xft.models.adapters.lora import (
    adapter_base,
    adapter_model_kind,
    is_adapter,
    is_identity_adapter,
    load_adapter,
    merge,
)

IDS = torch.arange(5, 25)[None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: Any) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "base", "llama", byte_tokenizer)


def _trained(base: Path, **options: Any) -> PeftModel:
    """A model with an adapter whose update is not zero."""
    torch.manual_seed(0)
    model: PeftModel = load_model(base, LoRA(**{"r": 4, "lora_alpha": 8, **options}))
    torch.manual_seed(1)
    for name, param in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(param, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def saved(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters") / "saved"
    _trained(base).save_pretrained(str(folder))
    return folder


@pytest.fixture
def adapter(saved: Path, tmp_path: Path) -> Path:
    """A copy of the saved adapter, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "adapter"))


def _plain(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=IDS).logits
    return logits


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", 0),
        ("lora_dropout", 1.0),
        ("lora_dropout", -0.1),
        ("init_lora_weights", "pissa_niter_0"),
        ("loraplus_lr_ratio", 0.0),
    ],
)
def test_option_out_of_range_raises_config_error(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        LoRA(**{key: value})
    assert (error.value.key, error.value.got) == (f"adapter.{key}", value)


@pytest.mark.parametrize("key", ["target_modules", "modules_to_save"])
def test_apply_with_unknown_layer_raises_config_error_with_the_nearest_name(base: Path, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        LoRA(r=2, **{key: ["q_prj"]}).apply(_plain(base), [])
    assert (error.value.key, error.value.got) == (f"adapter.{key}", "q_prj")
    assert "'q_proj'" in error.value.fix


def test_apply_leaves_outputs_unchanged_and_trains_a_and_b_only(base: Path) -> None:
    model = LoRA(r=2).apply(_plain(base), []).eval()
    assert torch.equal(_logits(model), _logits(_plain(base)))
    trainable = {name.split(".")[-3] for name, param in model.named_parameters() if param.requires_grad}
    assert trainable == {"lora_A", "lora_B"}
    assert is_identity_adapter(model)


def test_apply_scales_like_peft(base: Path) -> None:
    for options, scaling in (
        ({"r": 4, "lora_alpha": 8}, 2.0),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4.0),
        ({"r": 4, "lora_alpha": 8, "init_lora_weights": "olora"}, 2.0),
        ({"r": 4, "lora_alpha": 8, "init_lora_weights": "olora", "use_rslora": True}, 4.0),
    ):
        model = LoRA(**options).apply(_plain(base), [])
        layer: Any = model.base_model.model.model.layers[0].self_attn.q_proj
        assert layer.scaling["default"] == pytest.approx(scaling), options


def test_apply_trains_embeddings_of_new_tokens(base: Path) -> None:
    model = LoRA(r=2).apply(_plain(base), [7, 9])
    shapes = [tuple(param.shape) for name, param in model.named_parameters() if "token_adapter" in name]
    assert (2, 64) in shapes


def test_is_identity_adapter_of_trained_or_absent_adapter_is_false(base: Path) -> None:
    assert not is_identity_adapter(_trained(base))
    assert not is_identity_adapter(_plain(base))
    with_bias = LoRA(r=2).apply(_plain(base), [])
    layer: Any = with_bias.base_model.model.model.layers[0].self_attn.q_proj
    layer.lora_bias["default"] = True
    assert not is_identity_adapter(with_bias)


def test_merge_equals_the_adapter_on_its_base(base: Path) -> None:
    model = _trained(base)
    expected = _logits(model)
    merged = merge(model)
    assert not isinstance(merged, PeftModel)
    torch.testing.assert_close(_logits(merged), expected, rtol=1e-4, atol=1e-4)


def test_load_adapter_restores_the_saved_outputs(base: Path, saved: Path) -> None:
    model = load_adapter(_plain(base), saved).eval()
    torch.testing.assert_close(_logits(model), _logits(_trained(base)), rtol=1e-5, atol=1e-5)
    assert not any(param.requires_grad for param in model.parameters())
    assert is_adapter(saved)
    assert not is_adapter(base)


def test_load_adapter_without_safetensors_raises_model_error(base: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError) as error:
        load_adapter(_plain(base), adapter)
    assert error.value.key == f"{adapter}/adapter_model.safetensors"


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_load_adapter_of_other_weights_raises_model_error(base: Path, adapter: Path, change: str) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[0]
    if change == "missing":
        del weights[name]
    elif change == "unexpected":
        weights["base_model.model.other.lora_A.weight"] = torch.zeros(4, 64)
    else:
        weights[name] = torch.zeros(3, 3)
    save_file(weights, file)
    with pytest.raises(ModelError) as error:
        load_adapter(_plain(base), adapter)
    assert error.value.key == str(adapter)
    assert "\n" not in str(error.value)


def test_adapter_config_tells_base_and_kind(base: Path, adapter: Path) -> None:
    assert adapter_base(adapter) == str(base)
    assert adapter_model_kind(adapter) == "causal_lm"
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"task_type": "SEQ_CLS", "base_model_name_or_path": None}))
    assert adapter_model_kind(adapter) == "reward_model"
    with pytest.raises(ModelError) as error:
        adapter_base(adapter)
    assert error.value.key == f"{adapter}/adapter_config.json"


@pytest.mark.parametrize("text", ["", "{", '{"peft_type": "OTHER"}', "[]"])
def test_corrupt_adapter_config_raises_model_error(adapter: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError) as error:
        adapter_base(adapter)
    assert error.value.key == f"{adapter}/adapter_config.json"


def test_rank_and_alpha_are_doubled_with_a_frozen_half() -> None:
    plain, rslora = (
        LoRA(r=4, lora_alpha=8, init_lora_weights="pissa", use_rslora=flag) for flag in (False, True)
    )
    assert plain.has_frozen_half
    assert not LoRA().has_frozen_half
    assert (plain._doubled_alpha, rslora._doubled_alpha) == (16, pytest.approx(8 * math.sqrt(2)))
