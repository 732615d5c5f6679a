"""The estimate of memory equals that of real models, and the sizes of shipped models are the published ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import load_model
from transformers import CONFIG_MAPPING, AutoConfig

from xft.models import NF4, LoRA
from xft.models.checks.tiny_config import tiny_config
from xft.models.memory_estimate import NF4_BYTES, estimate_state_memory
from xft.utils.presets import preset_models, read_architecture

PUBLISHED = {
    "internlm2_5_7b": 7_737_708_544,
    "qwen2_5_7b": 7_615_616_512,
    "qwen3_8b": 8_190_735_360,
    "qwen3_30b_a3b": 30_532_122_624,
    "llama3_1_8b": 8_030_261_248,
    "mistral_7b": 7_248_023_552,
    "phi4": 14_659_507_200,
    "gpt_oss_20b": 20_914_757_184,
    "granite4_micro": 3_402_836_480,
    "smollm3_3b": 3_075_098_624,
    "yi1_5_9b": 8_829_407_232,
    "ernie4_5_0_3b": 360_748_032,
}
"""Number of parameters in the weight files of some models."""


def _config(name: str) -> Any:
    fields = read_architecture(preset_models()[name])
    return CONFIG_MAPPING[fields.pop("model_type")](**fields)


@pytest.mark.parametrize("name", PUBLISHED)
def test_shipped_model_has_the_published_number_of_parameters(name: str) -> None:
    assert estimate_state_memory(_config(name), None).num_parameters == PUBLISHED[name]


@pytest.mark.parametrize(
    "name", [name for name, file in preset_models().items() if read_architecture(file)]
)
def test_methods_of_a_shipped_model_need_less_memory_in_order(name: str) -> None:
    config = tiny_config(_config(name))
    lora = estimate_state_memory(config, LoRA(r=4))
    qlora = estimate_state_memory(config, LoRA(r=4), quantized=True)
    assert 0 < lora.gradients == qlora.gradients
    assert qlora.parameters < lora.parameters
    assert estimate_state_memory(config, None).total == pytest.approx(16 * lora.num_parameters, rel=1e-4)


@pytest.mark.parametrize("adapter", [None, LoRA(r=4)], ids=["full", "lora"])
def test_estimate_equals_a_model_after_a_step(base: Path, adapter: LoRA | None) -> None:
    dtype = "float32" if adapter is None else "bfloat16"
    model = load_model(base, adapter, dtype=dtype)
    trainable = [param for param in model.parameters() if param.requires_grad]
    for param in trainable:
        param.grad = torch.ones_like(param)
    optimizer = torch.optim.AdamW(trainable)
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    estimate = estimate_state_memory(AutoConfig.from_pretrained(base), adapter)
    assert estimate.parameters == sum(param.nbytes for param in model.parameters())
    assert estimate.gradients == sum(param.nbytes for param in trainable)
    assert estimate.optimizer == sum(value.nbytes for value in states if value.ndim)


def test_estimate_of_quantized_weights_counts_their_constants(base: Path) -> None:
    model = load_model(base, LoRA(r=4), NF4(), dtype="bfloat16")
    packed = [param for param in model.parameters() if param.dtype == torch.uint8]
    weights = sum(2 * param.numel() for param in packed)
    estimate = estimate_state_memory(AutoConfig.from_pretrained(base), LoRA(r=4), quantized=True)
    others = sum(param.nbytes for param in model.parameters() if param.dtype != torch.uint8)
    assert estimate.parameters == pytest.approx(others + weights * NF4_BYTES)
