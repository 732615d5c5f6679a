from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from xft.models.adapters.fused_lora_forward import fused_lora_forward, sole_active_adapter

X = torch.linspace(-1, 1, 12).reshape(3, 4)


def _layer(**options: Any) -> Any:
    """A LoRA layer of peft in training, whose update is not zero."""
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 2, "target_modules": ["0"], "init_lora_weights": False, **options})
    model = get_peft_model(nn.Sequential(nn.Linear(4, 5)), config)
    return model.base_model.model[0].train()


@pytest.mark.parametrize("use_rslora", [True, False])
def test_fused_lora_forward_equals_peft_with_its_gradients(use_rslora: bool) -> None:
    layer = _layer(use_rslora=use_rslora, lora_alpha=3)
    params = [param for param in layer.parameters() if param.requires_grad]
    outputs: list[tuple[Tensor, tuple[Tensor, ...]]] = []
    fused: Callable[[Tensor], Tensor] = lambda x: fused_lora_forward(  # noqa: E731
        layer, "default", x, lambda: layer.get_base_layer().weight
    )
    for forward in (layer, fused):
        x = X.clone().requires_grad_()
        output = forward(x)
        outputs.append((output, torch.autograd.grad(output.square().sum(), [x, *params])))
    torch.testing.assert_close(outputs[1], outputs[0])


def test_sole_active_adapter_of_layer_in_training_is_its_name() -> None:
    assert sole_active_adapter(_layer(), X) == "default"


def _with_second_adapter(layer: Any) -> None:
    layer.update_layer("other", 2, 2, config=LoraConfig(r=2))
    layer.set_adapter(["default", "other"])


def _shard(layer: Any) -> None:
    layer.get_base_layer().weight.ds_id = 0


def _train_base(layer: Any) -> None:
    layer.get_base_layer().bias.requires_grad_(True)


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.eval(),
        lambda layer: layer.merge(),
        lambda layer: layer.enable_adapters(False),
        _with_second_adapter,
        _shard,
        _train_base,
    ],
    ids=["evaluation", "merged", "disabled", "two adapters", "sharded", "trainable base"],
)
def test_sole_active_adapter_of_layer_that_only_peft_computes_is_none(
    change: Callable[[Any], object],
) -> None:
    layer = _layer()
    change(layer)
    assert sole_active_adapter(layer, X) is None


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_bias": True}])
def test_sole_active_adapter_of_lora_variant_is_none(options: dict[str, bool]) -> None:
    assert sole_active_adapter(_layer(**options), X) is None


@pytest.mark.parametrize("enabled", [True, False])
def test_sole_active_adapter_under_autocast_is_none(enabled: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16) if enabled else nullcontext():
        assert (sole_active_adapter(_layer(), X) is None) is enabled
