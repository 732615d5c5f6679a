from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit as BaseLinear4bit
from peft import LoraConfig
from peft.tuners.lora.bnb import Linear4bit
from torch import Tensor

from xft.models.adapters.fused_lora_4bit import FusedLinear4bit


def _layer(kind: type[Linear4bit], compute_dtype: torch.dtype = torch.float32) -> Any:
    """A layer on a base in NF4, in training, whose update is not zero."""
    torch.manual_seed(0)
    base = BaseLinear4bit(64, 64, bias=False, quant_type="nf4", compute_dtype=compute_dtype).to("cpu")
    config = LoraConfig(r=2, lora_alpha=4, init_lora_weights=False)
    return kind(base, "default", config=config, r=2, lora_alpha=4, init_lora_weights=False).train()


def _step(layer: Any, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    x = x.clone().requires_grad_()
    params = [param for name, param in layer.named_parameters() if "lora_" in name]
    output = layer(x)
    return output, list(torch.autograd.grad(output.float().square().sum(), [x, *params]))


def test_fused_step_on_nf4_base_equals_peft() -> None:
    x = torch.linspace(-1, 1, 3 * 64).reshape(3, 64)
    output, grads = _step(_layer(FusedLinear4bit), x)
    expected, expected_grads = _step(_layer(Linear4bit), x)
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("evaluation", [True, False])
def test_input_of_other_dtype_and_evaluation_are_left_to_peft(
    evaluation: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(Linear4bit, "forward", lambda self, x: calls.append(x.dtype) or x)
    layer = _layer(FusedLinear4bit, torch.bfloat16)
    x = torch.zeros(3, 64, dtype=torch.bfloat16 if evaluation else torch.float32)
    layer.train(not evaluation)(x)
    assert calls == [x.dtype]
