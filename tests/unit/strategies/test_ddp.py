from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from xft.models import TrainingModel
from xft.strategies import SingleDeviceConfig
from xft.strategies.ddp import DDP, DDPConfig, config_for_launcher
from xft.strategies.deepspeed.strategy import DeepSpeedConfig
from xft.types import Batch, LossOutput


def _loss(model: Any, batch: Batch) -> LossOutput:
    return LossOutput(model(torch.ones(1, 2)).sum(), 1)


def _prepared(folder: Path) -> DDP:
    strategy = DDPConfig(device="cpu").build(str(folder), 0)
    model = TrainingModel(nn.Linear(2, 3), _loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    strategy.prepare(
        model, optimizer=optimizer, lr_scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer)
    )
    return strategy


@pytest.mark.usefixtures("process_group")
def test_ddp_reduces_gradients_with_the_last_micro_batch_only(tmp_path: Path) -> None:
    strategy = _prepared(tmp_path)
    assert isinstance(strategy.model, DistributedDataParallel)
    for last in (False, True):
        with strategy._maybe_no_sync(last):
            assert strategy.model.require_backward_grad_sync is last


@pytest.mark.usefixtures("process_group")
def test_ddp_reduces_the_gradients_of_late_layers_while_early_ones_are_computed(tmp_path: Path) -> None:
    strategy = DDPConfig(device="cpu").build(str(tmp_path), 0)
    layers = nn.Sequential(
        *(nn.Linear(600, 600) for _ in range(3))
    )  # 1.4 MB each: more than the first bucket
    events: list[str] = []
    layers[0].get_parameter("weight").register_hook(lambda _: events.append("gradient of the first layer"))
    model = TrainingModel(layers, lambda model, _: LossOutput(model(torch.ones(1, 600)).sum(), 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    strategy.prepare(
        model, optimizer=optimizer, lr_scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer)
    )
    assert isinstance(strategy.model, DistributedDataParallel)

    def reduce(_: object, bucket: distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
        events.append("reduction")
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    strategy.model.register_comm_hook(None, reduce)
    batch = Batch(
        torch.zeros(1, 1, dtype=torch.long),
        torch.zeros(1, 1, dtype=torch.long),
        torch.zeros(1, 1, dtype=torch.long),
    )
    strategy.forward_backward(
        batch, 1.0, last=True
    )  # DDP groups gradients by their order in the first step
    events.clear()
    strategy.forward_backward(batch, 1.0, last=True)
    assert events[0] == "reduction"
    assert "gradient of the first layer" in events


@pytest.mark.usefixtures("process_group")
def test_collectives_return_the_values_of_all_ranks(tmp_path: Path) -> None:
    strategy = _prepared(tmp_path)
    assert (strategy.rank, strategy.world_size, strategy.data_rank, strategy.data_world_size) == (
        0,
        1,
        0,
        1,
    )
    big = 2.0**53 - 1  # exact in double precision only
    assert strategy.reduce_sum([big, 0.5]) == [big, 0.5]
    assert strategy.gather({"key": 1}) == [{"key": 1}]
    strategy.barrier()


@pytest.mark.usefixtures("process_group")
def test_close_unwraps_the_model_and_destroys_the_process_group(tmp_path: Path) -> None:
    strategy = _prepared(tmp_path)
    strategy.close()
    assert isinstance(strategy.model, TrainingModel)
    assert not distributed.is_initialized()


@pytest.mark.parametrize(
    ("rank", "data_rank", "sequence_rank"), [(0, 0, 0), (1, 0, 1), (2, 1, 0), (5, 2, 1)]
)
def test_neighboring_ranks_share_a_sequence(
    rank: int, data_rank: int, sequence_rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 6)
    monkeypatch.setattr(distributed, "new_subgroups", lambda size, timeout: (f"groups of {size}", None))
    strategy = DDPConfig(device="cpu", sequence_parallel_size=2).build(str(tmp_path), 0)
    assert (strategy.data_rank, strategy.data_world_size) == (data_rank, 3)
    assert strategy.sequence is not None
    assert (strategy.sequence.rank, strategy.sequence.size) == (sequence_rank, 2)
    assert strategy.sequence.process_group == "groups of 2"
    assert len(strategy.describe()) == 1


def test_config_for_launcher_replaces_a_single_device_only() -> None:
    single = SingleDeviceConfig(device="cpu", mixed_precision="bf16")
    assert config_for_launcher(single, "none") is single
    assert config_for_launcher(single, "pytorch") == DDPConfig(device="cpu", mixed_precision="bf16")
    deepspeed = DeepSpeedConfig(zero_stage=2)
    assert config_for_launcher(deepspeed, "pytorch") is deepspeed
