"""Training health: which steps are reported, and when the run ends."""

from typing import Any

import pytest
import torch
from helpers.runner import FakeRunner
from torch import nn

from xft.config.check import check
from xft.errors import ConfigError, TrainingError
from xft.training.hooks.training_health import ParameterUpdateMonitor, TrainingHealthHook, subsample
from xft.utils import console


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    return lines


def _begin(runner: FakeRunner, **options: Any) -> TrainingHealthHook:
    hook = TrainingHealthHook(**options)
    hook.before_run(runner)
    hook.before_train(runner)
    return hook


def _step(hook: TrainingHealthHook, runner: FakeRunner, **outputs: float) -> None:
    runner.train_loop.step += 1
    figures = {"loss": 1.0, "lr": 0.1, "grad_norm": 1.0, **outputs}
    hook.after_train_iter(runner, runner.train_loop.step - 1, [], figures)


def test_loss_above_four_times_median_is_reported_with_rows(logged: list[str]) -> None:
    runner = FakeRunner(num_steps=5)
    hook = _begin(runner)
    for loss in (1.0, 3.0, 2.0, 2.0, 1.0, 3.0, 2.0, 2.0, 7.9):  # the median is 2
        _step(hook, runner, loss=loss)
    assert logged == []
    _step(hook, runner, loss=8.1)
    assert logged == [
        "warning: loss spike at step 10: 8.1 (4.0× the median 2; rows: rows.jsonl:7)",
    ]


def test_signs_of_a_hacked_reward_are_reported_once_and_also_after_a_resume(logged: list[str]) -> None:
    runner = FakeRunner(num_steps=5)
    start = {
        "rollout_seconds": 1.0,
        "reward": 0.3,
        "reward_std": 0.2,
        "frac_reward_zero_std": 0.2,
        "completions/mean_length": 40.0,
        "completions/repetition": 0.0,
        "entropy": 1.2,
    }
    for changes in ({}, {"completions/mean_length": 90.0}, {"completions/mean_length": 90.0}):
        hook = _begin(runner)
        for _ in range(6):
            _step(hook, runner, **{**start, **changes})
    (line,) = logged
    assert line.startswith("warning: completions grow")


def test_loss_is_compared_with_median_of_window(logged: list[str]) -> None:
    """After four nines among the last eight the median is 5, and 9 is less than four times that."""
    runner = FakeRunner(num_steps=5)
    hook = _begin(runner, loss_spike_window=8)
    for loss in [1.0] * 20 + [9.0] * 8:
        _step(hook, runner, loss=loss)
    assert [line.split()[5] for line in logged] == ["21:", "22:", "23:", "24:"]
    assert runner.state["training_health"]["losses"] == [9.0] * 8


def test_spikes_beyond_the_maximum_are_not_reported(logged: list[str]) -> None:
    runner = FakeRunner(num_steps=5)
    hook = _begin(runner)
    for loss in [1.0] * 20 + [9.0] * 8:
        _step(hook, runner, loss=loss)
    assert runner.state["training_health"]["spikes"] == 8
    assert len(logged) == 5
    assert logged[-1].endswith("further spikes are not reported")


def test_resumed_run_restores_losses(logged: list[str]) -> None:
    first = FakeRunner(num_steps=5)
    hook = _begin(first)
    for _ in range(8):
        _step(hook, first)
    again = FakeRunner(num_steps=5)
    again.state, again.train_loop.step = first.state, 8
    _step(_begin(again), again, loss=5.0)
    assert len(logged) == 1


@pytest.mark.parametrize(("rates", "said_at"), [([0.0] * 10, 10), ([0.0] * 9 + [0.1], None)])
def test_zero_learning_rate_in_all_first_steps_is_reported(
    logged: list[str], rates: list[float], said_at: int | None
) -> None:
    runner = FakeRunner()
    hook = _begin(runner)
    for rate in rates:
        _step(hook, runner, lr=rate)
    zero = [line for line in logged if "learning rate is 0 for the first 10 steps" in line]
    assert len(zero) == (said_at is not None)


def test_zero_gradients_are_reported_and_three_consecutive_ones_end_the_run(logged: list[str]) -> None:
    runner = FakeRunner()
    hook = _begin(runner)
    for norm in (0.0, 0.0, 1.0, 0.0, 0.0):
        _step(hook, runner, grad_norm=norm)
    assert logged == [f"warning: all gradients of step {step} are zero" for step in (1, 4)]
    with pytest.raises(TrainingError) as error:
        _step(hook, runner, grad_norm=0.0)
    assert (error.value.key, error.value.got) == ("grad_norm", 0.0)


def test_zero_gradient_after_first_steps_is_ignored(logged: list[str]) -> None:
    """A model that knows its rows by heart has nothing more to learn."""
    runner = FakeRunner(num_steps=5)
    hook = _begin(runner)
    for _ in range(10):
        _step(hook, runner)
    logged.clear()
    for _ in range(5):
        _step(hook, runner, grad_norm=0.0)
    assert logged == []


def test_model_without_trainable_parameters_is_rejected() -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(TrainingError) as error:
        _begin(FakeRunner(model))
    assert error.value.expected == "trainable parameters"


class _Model(nn.Module):
    """A layer in fp32, one in bf16, and an embedding of which one row is used."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Parameter(torch.ones(3, 3))
        self.coarse = nn.Parameter(torch.ones(3, 3, dtype=torch.bfloat16))
        self.tokens = nn.Embedding(1000, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ((self.tokens(ids) @ self.fine) @ self.coarse.float()).sum()


def _train(model: nn.Module, hook: TrainingHealthHook, runner: FakeRunner, rate: float, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.tensor([3])).backward()
        optimizer.step()
        _step(hook, runner, lr=rate)


def test_parameters_too_coarse_for_the_update_are_named(logged: list[str]) -> None:
    """Between 1 and 2, neighbours in bf16 are 2 ** -7 apart, so a step of about 1e-4 is rounded away."""
    torch.manual_seed(0)
    model = _Model()
    runner = FakeRunner(model, lr=1e-4)
    _train(model, _begin(runner), runner, 1e-4, 10)
    assert len(logged) == 1
    assert logged[0].startswith(
        "warning: 1 of 2 trainable tensors have not changed in 10 steps at or near the full learning rate "
        "(such as coarse, bfloat16)"
    )


def test_changed_parameters_are_not_reported(logged: list[str]) -> None:
    torch.manual_seed(0)
    model = _Model()
    runner = FakeRunner(model, lr=0.1)
    _train(model, _begin(runner), runner, 0.1, 10)
    assert logged == []


def test_unchanged_parameters_of_short_run_are_reported_at_its_end(logged: list[str]) -> None:
    runner = FakeRunner(_Model(), num_steps=5, lr=0.1)
    hook = _begin(runner)
    for _ in range(3):  # too short for ten steps: it is said at the end
        _step(hook, runner)
    assert logged == []
    hook.after_train(runner)
    assert "2 of 2 trainable tensors have not changed in 3 steps" in logged[0]


def test_warm_up_steps_are_not_counted(logged: list[str]) -> None:
    monitor = ParameterUpdateMonitor(_Model(), max_lr=1.0, num_steps=2)
    assert [monitor.is_due(lr) for lr in (0.0, 0.1, 0.4, 0.5, 1.0)] == [False] * 4 + [True]


def test_subsample_copies_evenly_spaced_values() -> None:
    weight = torch.arange(1000.0).reshape(10, 100)
    some = subsample(weight, max_values=10)
    assert some.tolist() == [float(value) for value in range(0, 1000, 100)]
    weight.zero_()
    assert some[-1] == 900


def test_nonfinite_steps_are_skipped_up_to_the_maximum(logged: list[str]) -> None:
    runner = FakeRunner()
    hook = _begin(runner, on_nonfinite="skip", max_skipped_steps=2)
    for expected in (1, 2):
        hook.after_nonfinite(runner, reason="the loss is nan", rows=["rows.jsonl:7"])
        assert runner.train_loop.skip_nonfinite
        assert logged[-1].startswith("warning: skipped step 1: the loss is nan (rows: rows.jsonl:7)")
        assert f"{expected} step" in logged[-1]
        _step(hook, runner, skipped=1, loss=float("nan"))
        runner.train_loop.step = 0
    _step(hook, runner)  # a good step between
    hook.after_nonfinite(runner, reason="the loss is nan", rows=["rows.jsonl:7"])
    hook.after_nonfinite(runner, reason="the loss is nan", rows=["rows.jsonl:7"])
    with pytest.raises(TrainingError) as error:
        hook.after_nonfinite(runner, reason="the loss is nan", rows=["rows.jsonl:7"])
    assert (error.value.key, error.value.got) == ("hooks.training_health.max_skipped_steps", 3)


def test_default_does_not_skip_nonfinite_steps() -> None:
    runner = FakeRunner()
    _begin(runner).after_nonfinite(runner, reason="the loss is nan", rows=[])
    assert not runner.train_loop.skip_nonfinite


@pytest.mark.parametrize(
    "options",
    [
        {"max_skipped_steps": -1},
        {"loss_spike_factor": 1.0},
        {"loss_spike_window": 2},
        {"num_sanity_steps": 0},
    ],
)
def test_option_out_of_range_is_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        check(options, TrainingHealthHook)
    assert (error.value.key, error.value.got) == next(iter(options.items()))
