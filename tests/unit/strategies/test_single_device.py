from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.preferences import pair_samples
from torch import Tensor, nn
from torch.nn.functional import one_hot

from xft.data import collate_padding_free
from xft.errors import TrainingError
from xft.strategies import SingleDevice, SingleDeviceConfig
from xft.types import Batch, LossOutput, SequenceParallelGroup


class Model(nn.Module):
    """The loss of each target token is ``scale`` times the sum of its row of ``weight``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(300, 2))
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, batch: Batch) -> LossOutput:
        ids = batch.input_ids.flatten()[batch.target_positions + 1]
        loss = (one_hot(ids, 300).float() @ self.weight + self.bias).sum()
        return LossOutput(loss, batch.num_targets)


@pytest.fixture
def strategy(tmp_path: Path) -> SingleDevice:
    return _strategy(tmp_path)


def _strategy(folder: Path, names: tuple[str, ...] = ("weight", "bias")) -> SingleDevice:
    strategy = SingleDeviceConfig(device="cpu").build(str(folder), 0)
    model = Model()
    groups = [{"params": [getattr(model, name)], "lr": 0.1 * rate} for rate, name in enumerate(names, 1)]
    optimizer = torch.optim.AdamW(groups)
    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 / (1 + step))
    strategy.prepare(model, optimizer=optimizer, lr_scheduler=lr_scheduler)
    return strategy


def _params(strategy: SingleDevice) -> dict[str, Tensor]:
    return {name: param.detach().clone() for name, param in strategy.model.named_parameters()}


def test_forward_backward_accumulates_scaled_gradients_of_micro_batches(strategy: SingleDevice) -> None:
    samples = pair_samples()
    total = sum(sample.num_targets for sample in samples)
    for start, last in ((0, False), (4, True)):
        batch = collate_padding_free(samples[start : start + 4])
        output = strategy.forward_backward(batch, 1 / total, last)
        assert output.num_targets == batch.num_targets
    bias = strategy.model.bias
    assert isinstance(bias, nn.Parameter)
    torch.testing.assert_close(bias.grad, torch.ones(2))


def test_step_returns_the_norm_before_clipping_and_resets_gradients(strategy: SingleDevice) -> None:
    """SGD with rate 1, so that the step is the clipped gradient."""
    params = list(strategy.model.parameters())
    strategy.optimizer = torch.optim.SGD(params, lr=1.0)
    strategy.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(strategy.optimizer, lambda step: 1.0)
    before = _params(strategy)
    params[1].grad = torch.tensor([3.0, 4.0])
    assert strategy.step(max_grad_norm=1.0) == pytest.approx(5.0)
    torch.testing.assert_close(before["bias"] - params[1].detach(), torch.tensor([0.6, 0.8]))
    assert all(param.grad is None for param in params)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_step_of_nonfinite_gradient_raises_and_changes_nothing(
    strategy: SingleDevice, value: float
) -> None:
    before, rates = _params(strategy), [group["lr"] for group in strategy.optimizer.param_groups]
    for param in strategy.model.parameters():
        param.grad = torch.full_like(param, value)
    with pytest.raises(TrainingError) as error:
        strategy.step(max_grad_norm=1.0)
    assert error.value.key == "grad_norm"
    assert str(error.value.got) == str(value)
    assert all(torch.equal(param, before[name]) for name, param in strategy.model.named_parameters())
    assert [group["lr"] for group in strategy.optimizer.param_groups] == rates


def _train(strategy: SingleDevice, steps: range) -> None:
    for step in steps:
        for param in strategy.model.parameters():
            param.grad = torch.full_like(param, 1.0 + step)
        strategy.step(None)


def test_load_optimizer_state_continues_bit_for_bit(tmp_path: Path) -> None:
    whole, first, second = (_strategy(tmp_path) for _ in range(3))
    _train(whole, range(4))
    _train(first, range(2))
    tree = deepcopy(first.optimizer_state())
    assert set(tree["state"]) == {"weight", "bias"}
    assert [group["names"] for group in tree["groups"]] == [["weight"], ["bias"]]
    second.model.load_state_dict(first.model.state_dict())
    second.load_optimizer_state(tree)
    second.lr_scheduler.load_state_dict(first.lr_scheduler.state_dict())
    _train(second, range(2, 4))
    assert all(torch.equal(param, _params(whole)[name]) for name, param in _params(second).items())


def test_load_optimizer_state_of_other_parameters_raises_value_error(tmp_path: Path) -> None:
    tree: dict[str, Any] = _strategy(tmp_path, ("bias", "weight")).optimizer_state()
    with pytest.raises(ValueError, match="other parameters"):
        _strategy(tmp_path).load_optimizer_state(tree)


def test_reduce_data_sum_counts_a_sequence_parallel_group_once(strategy: SingleDevice) -> None:
    assert strategy.reduce_data_sum([2.0, 3.0]) == [2.0, 3.0]
    for rank, expected in ((0, [2.0]), (1, [0.0])):
        strategy.sequence = SequenceParallelGroup(rank, 2, None)
        assert strategy.reduce_data_sum([2.0]) == expected


def test_to_device_attaches_the_sequence_parallel_group(strategy: SingleDevice) -> None:
    group = strategy.sequence = SequenceParallelGroup(0, 2, None)
    batch = strategy.to_device(collate_padding_free(pair_samples()))
    assert batch.sequence is group
    assert batch.input_ids.device == strategy.device


def test_single_device_is_its_own_only_rank(strategy: SingleDevice) -> None:
    assert strategy.gather("value") == ["value"]
    assert strategy.describe() == []
