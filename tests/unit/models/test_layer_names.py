"""Names in the config of an adapter match layers of the model, or are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from helpers.tiny import save_tiny, tiny_config
from transformers import AutoModelForCausalLM

from xft.errors import ConfigError
from xft.models import LoRA
from xft.models.adapters import layer_names
from xft.models.adapters.layer_names import check_layer_names, trainable_tokens


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForCausalLM.from_config(tiny_config("llama", 97))


@pytest.mark.parametrize(
    "targets",
    [
        "all-linear",
        "ALL-LINEAR",
        ["q_proj"],
        ["self_attn.q_proj", "layers.1.mlp.up_proj"],
        ["model.layers.0.self_attn.q_proj"],
        r".*\.[01]\.self_attn\.(q|v)_proj",
    ],
)
def test_names_of_layers_are_accepted(model: Any, targets: str | list[str]) -> None:
    check_layer_names(model, targets, ["norm"])


@pytest.mark.parametrize(
    "targets",
    [
        ["q_proj", "layers.99.self_attn.v_proj"],
        ["q_prj"],
        ["proj"],
        ["other.q_proj"],
        ["base_model.model.model.layers.0.self_attn.q_proj"],
        "q_proj",
        "[q_proj,v_proj]",
        "q_proj,v_proj",
        "(q_proj",
        "",
    ],
)
def test_names_that_match_nothing_are_refused(model: Any, targets: str | list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        check_layer_names(model, targets, [])
    assert error.value.key == "adapter.target_modules"
    assert error.value.got == (targets if isinstance(targets, str) else targets[-1])


@pytest.mark.parametrize("text", ["[q_proj,v_proj]", "q_proj, v_proj", "q_proj|v_proj"])
def test_unquoted_list_is_answered_with_the_list(model: Any, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_layer_names(model, text, [])
    assert "adapter.target_modules=['q_proj', 'v_proj']" in error.value.fix


def test_path_in_modules_to_save_must_exist(model: Any) -> None:
    with pytest.raises(ConfigError) as error:
        check_layer_names(model, "all-linear", ["layers.7.input_layernorm"])
    assert (error.value.key, error.value.got) == ("adapter.modules_to_save", "layers.7.input_layernorm")


def test_slow_regular_expression_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_names, "REGEX_LIMIT_S", 0.2)
    with pytest.raises(ConfigError) as error:
        check_layer_names(model, r"(([a-z_0-9]+)*\.?)+!", [])
    assert error.value.key == "adapter.target_modules"
    assert "0.2 s" in error.value.expected


NEW = [95, 96]


@pytest.mark.parametrize(
    ("targets", "saved", "tied", "expected"),
    [
        ("all-linear", [], True, NEW),
        ("all-linear", [], False, NEW),
        (["q_proj"], ["embed_tokens", "lm_head"], True, None),
        (["q_proj"], ["embed_tokens"], False, None),
        (["q_proj"], ["lm_head"], False, NEW),
        (["q_proj", "lm_head"], [], False, NEW),
        (["q_proj"], ["lm_head"], True, "adapter.modules_to_save"),
        (["q_proj", "lm_head"], [], True, "adapter.target_modules"),
        (["q_proj", "embed_tokens"], [], False, "adapter.target_modules"),
        (r".*(q_proj|embed_tokens)", [], True, "adapter.target_modules"),
    ],
)
def test_new_tokens_are_trained_once(
    targets: str | list[str], saved: list[str], tied: bool, expected: object
) -> None:
    config = tiny_config("llama", 97)
    config.tie_word_embeddings = tied
    model = AutoModelForCausalLM.from_config(config)
    if isinstance(expected, str):
        with pytest.raises(ConfigError) as error:
            trainable_tokens(model, NEW, targets, saved)
        assert error.value.key == expected
    else:
        assert trainable_tokens(model, NEW, targets, saved) == expected


def test_added_tokens_with_full_embeddings_are_attached(tmp_path: Path, byte_tokenizer: Any) -> None:
    folder = save_tiny(tmp_path, "llama", byte_tokenizer)
    adapter = LoRA(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    model = load_model(folder, adapter, additional_special_tokens=["<a>", "<b>"])
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    assert len([name for name in trained if "embed_tokens" in name or "lm_head" in name]) == 2
    assert model(input_ids=torch.arange(5, 9)[None]).logits.isfinite().all()
