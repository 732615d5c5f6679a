"""Steps, state and gathered parameters of FSDP2, on a gloo group of this process only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from torch import distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from xft.distributed.sharded import TensorShard
from xft.errors import ConfigError
from xft.models import TrainingModel
from xft.optim import adamw, muon
from xft.strategies import SingleDeviceConfig, Strategy
from xft.strategies.fsdp2 import FSDP2, FSDP2Config
from xft.types import Batch, LossOutput


def _loss(model: Any, batch: Batch) -> LossOutput:
    return LossOutput(model(torch.ones(1, 2, dtype=model.weight.dtype)).square().sum(), 1)


def _prepare(strategy: Strategy) -> None:
    torch.manual_seed(1)
    model = TrainingModel(nn.Linear(2, 3), _loss)
    optimizer = adamw(model.parameters(), lr=0.1)
    strategy.prepare(
        model, optimizer=optimizer, lr_scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer)
    )


def _prepared(folder: Path, **options: Any) -> FSDP2:
    strategy = FSDP2Config(device="cpu", **options).build(str(folder), 0)
    _prepare(strategy)
    return strategy


def _step(strategy: Strategy, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(strategy, "to_device", lambda batch: batch)
    for last in (False, True):
        batch: Any = None
        strategy.forward_backward(batch, 0.5, last)
    return strategy.step(0.1)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("options", [{}, {"cpu_offload": True}, {"reshard_after_forward": False}])
def test_steps_are_those_of_one_device(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = SingleDeviceConfig(device="cpu").build(str(tmp_path), 0)
    _prepare(plain)
    strategy = _prepared(tmp_path, **options)
    for _ in range(2):
        assert _step(strategy, monkeypatch) == pytest.approx(_step(plain, monkeypatch))
    for expected, param in zip(plain.model.parameters(), strategy.model.parameters(), strict=True):
        torch.testing.assert_close(strategy.local_view(param), expected.data)
        assert param.grad is None


@pytest.mark.usefixtures("process_group")
def test_mixed_precision_computes_in_bf16_and_keeps_fp32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = _prepared(tmp_path, mixed_precision="bf16")
    seen = []
    strategy.model.model.register_forward_pre_hook(lambda module, _: seen.append(module.weight.dtype))
    _step(strategy, monkeypatch)
    assert seen == [torch.bfloat16] * 2
    assert all(param.dtype == torch.float32 for param in strategy.model.parameters())


@pytest.mark.usefixtures("process_group")
def test_skipped_step_leaves_no_gradient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = _prepared(tmp_path)
    monkeypatch.setattr(strategy, "to_device", lambda batch: batch)
    batch: Any = None
    strategy.forward_backward(batch, 1.0, True)
    strategy.zero_grad()
    assert all(param.grad is None for param in strategy.model.parameters())
    assert _step(strategy, monkeypatch) > 0


@pytest.mark.usefixtures("process_group")
def test_gathered_parameters_are_in_the_modules_and_changes_are_kept_on_demand(tmp_path: Path) -> None:
    strategy = _prepared(tmp_path)
    layer = strategy.model.model
    weight = layer.weight
    for write in (False, True):
        with strategy.summon_full_params([weight], write=write) as (full,):
            assert layer.weight.data_ptr() == full.data_ptr()
            assert not isinstance(layer.weight, DTensor)
            layer.weight.data.fill_(7)
        assert layer.weight is weight
        assert bool((strategy.local_view(weight) == 7).all()) is write
    strategy.load_full_param(weight, torch.ones(3, 2))
    assert torch.equal(strategy.local_view(weight), torch.ones(3, 2))


@pytest.mark.usefixtures("process_group")
def test_optimizer_state_is_of_shards_and_loads_from_full_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, other = _prepared(tmp_path), SingleDeviceConfig(device="cpu").build(str(tmp_path), 0)
    _prepare(other)
    _step(other, monkeypatch)
    tree = other.optimizer_state()
    strategy.load_optimizer_state(tree)
    state = strategy.optimizer_state()
    assert state["groups"] == tree["groups"]
    for name, tensors in tree["state"].items():
        saved = state["state"][name]
        assert saved["step"] == tensors["step"]
        shard = saved["exp_avg"]
        assert isinstance(shard, TensorShard)
        assert (shard.shape, shard.offset) == (tuple(tensors["exp_avg"].shape), 0)
        assert torch.equal(shard.local, tensors["exp_avg"].flatten())


@pytest.mark.usefixtures("process_group")
def test_close_destroys_the_process_group(tmp_path: Path) -> None:
    strategy = _prepared(tmp_path)
    assert strategy.describe() == ["fsdp2     1 groups on 1 rank"]
    strategy.close()
    assert not distributed.is_initialized()


@pytest.mark.parametrize("optimizer", [muon, AdamW8bit, torch.optim.Adafactor])
def test_validate_optimizer_that_needs_full_matrices_raises(optimizer: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError) as error:
        FSDP2Config().validate(optimizer)
    assert error.value.key == "optimizer.type"
    assert "\n" not in str(error.value)


def test_validate_old_torch_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    FSDP2Config().validate(adamw)
    monkeypatch.delattr(FSDPModule, "set_reduce_scatter_unused_params")
    with pytest.raises(ConfigError) as error:
        FSDP2Config().validate(adamw)
    assert error.value.key == "strategy.type"
