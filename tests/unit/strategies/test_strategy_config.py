from pathlib import Path

import pytest
import torch

from xft.optim import adamw
from xft.strategies import SingleDevice, SingleDeviceConfig
from xft.strategies.ddp import DDPConfig


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, None)])
def test_auto_is_bf16_where_the_hardware_has_it(
    native: bool, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xft.strategies.strategy_config.has_native_bf16", lambda device: native)
    assert SingleDeviceConfig(device="cpu", mixed_precision="auto").autocast_dtype == dtype
    assert SingleDeviceConfig(device="cpu", mixed_precision="bf16").autocast_dtype == torch.bfloat16
    assert SingleDeviceConfig(device="cpu").autocast_dtype is None


@pytest.mark.parametrize(("mixed_precision", "dtype"), [(None, torch.float32), ("bf16", torch.bfloat16)])
def test_build_computes_in_the_dtype_of_mixed_precision(
    mixed_precision: str | None, dtype: torch.dtype, tmp_path: Path
) -> None:
    config = SingleDeviceConfig(device="cpu", mixed_precision=mixed_precision)  # type: ignore[arg-type]
    strategy = config.build(str(tmp_path), 0)
    assert type(strategy) is SingleDevice
    with strategy.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_build_seeds_the_random_number_generators(tmp_path: Path) -> None:
    draws = []
    for seed in (1, 2, 1):
        SingleDeviceConfig(device="cpu").build(str(tmp_path), seed)
        draws.append(float(torch.rand(())))
    assert draws[0] == draws[2] != draws[1]


def test_single_device_needs_no_process_group_and_accepts_any_optimizer() -> None:
    single, ddp = SingleDeviceConfig(), DDPConfig()
    assert (single.is_distributed, single.timeout_minutes, single.sequence_parallel_size) == (False, 0.0, 1)
    assert ddp.is_distributed
    assert ddp.timeout_minutes > 0
    single.validate(adamw)


def test_model_init_context_of_unsharded_strategy_leaves_parameters_unchanged() -> None:
    with SingleDeviceConfig().model_init_context(torch.float32, is_quantized=False):
        assert torch.nn.Linear(2, 3).weight.shape == (3, 2)
