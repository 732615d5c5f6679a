import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import logits_of, plain_model, trained_adapter

from xft.errors import ConfigError
from xft.models import LoRA
from xft.models.adapters.lora import is_identity_adapter


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
        LoRA(r=2, **{key: ["q_prj"]}).apply(plain_model(base), [])
    assert (error.value.key, error.value.got) == (f"adapter.{key}", "q_prj")
    assert "'q_proj'" in error.value.fix


def test_apply_leaves_outputs_unchanged_and_trains_a_and_b_only(base: Path) -> None:
    model = LoRA(r=2).apply(plain_model(base), []).eval()
    assert torch.equal(logits_of(model), logits_of(plain_model(base)))
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
        model = LoRA(**options).apply(plain_model(base), [])
        layer: Any = model.base_model.model.model.layers[0].self_attn.q_proj
        assert layer.scaling["default"] == pytest.approx(scaling), options


def test_apply_trains_embeddings_of_new_tokens(base: Path) -> None:
    model = LoRA(r=2).apply(plain_model(base), [7, 9])
    shapes = [tuple(param.shape) for name, param in model.named_parameters() if "token_adapter" in name]
    assert (2, 64) in shapes


def test_is_identity_adapter_of_trained_or_absent_adapter_is_false(base: Path) -> None:
    assert not is_identity_adapter(trained_adapter(base))
    assert not is_identity_adapter(plain_model(base))
    with_bias = LoRA(r=2).apply(plain_model(base), [])
    layer: Any = with_bias.base_model.model.model.layers[0].self_attn.q_proj
    layer.lora_bias["default"] = True
    assert not is_identity_adapter(with_bias)


def test_rank_and_alpha_are_doubled_with_a_frozen_half() -> None:
    plain, rslora = (
        LoRA(r=4, lora_alpha=8, init_lora_weights="pissa", use_rslora=flag) for flag in (False, True)
    )
    assert plain.has_frozen_half
    assert not LoRA().has_frozen_half
    assert (plain._doubled_alpha, rslora._doubled_alpha) == (16, pytest.approx(8 * math.sqrt(2)))
