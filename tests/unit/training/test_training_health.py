"""The guards: what they say of which step, and when they stop."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.strategies import FakeStrategy
from torch import nn

from xft.errors import ConfigError, TrainingError
from xft.training.hooks.training_health import Moves, TrainingHealthHook, some_of
from xft.training.loop import shorten
from xft.utils import console


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    return lines


def _runner(model: nn.Module | None = None, steps: int = 100, rate: float = 1.0) -> Any:
    loop = SimpleNamespace(
        step=0,
        forgiven=False,
        plan=SimpleNamespace(num_steps=steps),
        strategy=FakeStrategy(lr=rate),
        rows=lambda: ["rows.jsonl:7"],
    )
    return SimpleNamespace(state={}, unwrapped_model=model or nn.Linear(4, 4), train_loop=loop)


def _begin(runner: Any, **options: Any) -> TrainingHealthHook:
    hook = TrainingHealthHook(**options)
    hook.before_run(runner)
    hook.before_train(runner)
    return hook


def _step(hook: TrainingHealthHook, runner: Any, **outputs: float) -> None:
    runner.train_loop.step += 1
    figures = {"loss": 1.0, "lr": 0.1, "grad_norm": 1.0, **outputs}
    hook.after_train_iter(runner, runner.train_loop.step - 1, outputs=figures)


def test_a_loss_above_four_times_the_median_is_said_with_its_rows(said: list[str]) -> None:
    runner = _runner(steps=5)
    hook = _begin(runner)
    for loss in (1.0, 3.0, 2.0, 2.0, 1.0, 3.0, 2.0, 2.0, 7.9):  # the median is 2
        _step(hook, runner, loss=loss)
    assert said == []
    _step(hook, runner, loss=8.1)
    assert said == [
        "warning: the loss of step 10 is 8.1, 4.0 times the usual 2 (rows: rows.jsonl:7)",
    ]


def test_a_loss_is_compared_with_the_newest_ones(said: list[str]) -> None:
    """After four nines among the last eight the median is 5, and 9 is less than four times that."""
    runner = _runner(steps=5)
    hook = _begin(runner, loss_spike_window=8)
    for loss in [1.0] * 20 + [9.0] * 8:
        _step(hook, runner, loss=loss)
    assert [each.split()[5] for each in said] == ["21", "22", "23", "24"]
    assert runner.state["training_health"]["losses"] == [9.0] * 8


def test_only_so_many_spikes_are_said(said: list[str]) -> None:
    runner = _runner(steps=5)
    hook = _begin(runner)
    for loss in [1.0] * 20 + [9.0] * 8:
        _step(hook, runner, loss=loss)
    assert runner.state["training_health"]["spikes"] == 8
    assert len(said) == 5
    assert said[-1].endswith("spikes after this one are not said")


def test_a_resumed_run_remembers_the_losses(said: list[str]) -> None:
    first = _runner(steps=5)
    hook = _begin(first)
    for _ in range(8):
        _step(hook, first)
    again = _runner(steps=5)
    again.state, again.train_loop.step = first.state, 8
    _step(_begin(again), again, loss=5.0)
    assert len(said) == 1


@pytest.mark.parametrize(("rates", "said_at"), [([0.0] * 10, 10), ([0.0] * 9 + [0.1], None)])
def test_a_learning_rate_of_zero_in_all_of_the_first_steps_is_said(
    said: list[str], rates: list[float], said_at: int | None
) -> None:
    runner = _runner()
    hook = _begin(runner)
    for rate in rates:
        _step(hook, runner, lr=rate)
    zero = [each for each in said if "learning rate was 0 in the first 10 steps" in each]
    assert len(zero) == (said_at is not None)


def test_gradients_of_zero_are_said_and_three_in_a_row_end_the_run(said: list[str]) -> None:
    runner = _runner()
    hook = _begin(runner)
    for norm in (0.0, 0.0, 1.0, 0.0, 0.0):
        _step(hook, runner, grad_norm=norm)
    assert said == [f"warning: the gradients of step {step} are all zero" for step in (1, 4)]
    with pytest.raises(TrainingError, match=r"3 steps in a row .*step 6.* nothing can be learnt"):
        _step(hook, runner, grad_norm=0.0)


def test_later_on_a_gradient_of_zero_is_no_error(said: list[str]) -> None:
    """A model that knows its rows by heart has nothing more to learn."""
    runner = _runner(steps=5)
    hook = _begin(runner)
    for _ in range(10):
        _step(hook, runner)
    said.clear()
    for _ in range(5):
        _step(hook, runner, grad_norm=0.0)
    assert said == []


def test_without_a_trained_weight_nothing_begins() -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(TrainingError, match="no weight is trained"):
        _begin(_runner(model))


class _Model(nn.Module):
    """A layer in fp32, one in bf16, and an embedding of which one row is used."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Parameter(torch.ones(3, 3))
        self.coarse = nn.Parameter(torch.ones(3, 3, dtype=torch.bfloat16))
        self.tokens = nn.Embedding(1000, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return ((self.tokens(ids) @ self.fine) @ self.coarse.float()).sum()


def _train(model: nn.Module, hook: TrainingHealthHook, runner: Any, rate: float, steps: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.tensor([3])).backward()
        optimizer.step()
        _step(hook, runner, lr=rate)


def test_weights_whose_type_cannot_take_the_step_are_named(said: list[str]) -> None:
    """Between 1 and 2, neighbours in bf16 are 2 ** -7 apart, so a step of about 1e-4 is rounded away."""
    torch.manual_seed(0)
    model = _Model()
    runner = _runner(model, rate=1e-4)
    _train(model, _begin(runner), runner, 1e-4, 10)
    assert len(said) == 1
    assert said[0].startswith(
        "warning: 1 of the 2 trained tensors have not moved in 10 steps at or near the full learning rate "
        "(such as coarse, bfloat16)"
    )


def test_weights_that_move_are_not_talked_of(said: list[str]) -> None:
    torch.manual_seed(0)
    model = _Model()
    runner = _runner(model, rate=0.1)
    _train(model, _begin(runner), runner, 0.1, 10)
    assert said == []


def test_an_optimizer_that_does_nothing_is_said(said: list[str]) -> None:
    runner = _runner(_Model(), steps=5, rate=0.1)
    hook = _begin(runner)
    for _ in range(3):  # too short for ten steps: it is said at the end
        _step(hook, runner)
    assert said == []
    hook.after_train(runner)
    assert "none of the 2 trained tensors has moved in 3 steps" in said[0]


def test_the_steps_of_a_warm_up_do_not_count(said: list[str]) -> None:
    moves = Moves(_Model(), rate=1.0, enough=2)
    assert [moves.is_due(each) for each in (0.0, 0.1, 0.4, 0.5, 1.0)] == [False] * 4 + [True]


def test_some_of_a_weight_is_a_copy_spread_over_all_of_it() -> None:
    weight = torch.arange(1000.0).reshape(10, 100)
    some = some_of(weight, most=10)
    assert some.tolist() == [float(each) for each in range(0, 1000, 100)]
    weight.zero_()
    assert some[-1] == 900


def test_steps_are_left_out_up_to_so_many_in_a_row(said: list[str]) -> None:
    runner = _runner()
    hook = _begin(runner, on_nonfinite="skip", max_skipped_steps=2)
    for expected in (1, 2):
        hook.after_nonfinite(runner, reason="the loss is nan", rows=["rows.jsonl:7"])
        assert runner.train_loop.forgiven
        assert said[-1].startswith("warning: step 1 is left out: the loss is nan (rows: rows.jsonl:7)")
        assert f"{expected} left out" in said[-1]
        _step(hook, runner, skipped=1, loss=float("nan"))
        runner.train_loop.step = 0
    _step(hook, runner)  # a good step between
    hook.after_nonfinite(runner, reason="the loss is nan", rows=["rows.jsonl:7"])
    hook.after_nonfinite(runner, reason="the loss is nan", rows=["rows.jsonl:7"])
    with pytest.raises(TrainingError, match="after 2 steps in a row that were left out"):
        hook.after_nonfinite(runner, reason="the loss is nan", rows=["rows.jsonl:7"])


def test_by_default_nothing_is_forgiven() -> None:
    runner = _runner()
    _begin(runner).after_nonfinite(runner, reason="the loss is nan", rows=[])
    assert not runner.train_loop.forgiven


@pytest.mark.parametrize(
    "options",
    [
        {"max_skipped_steps": -1},
        {"loss_spike_factor": 1.0},
        {"loss_spike_window": 2},
        {"num_sanity_steps": 0},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"hooks\.training_health\.{next(iter(options))}: got"):
        TrainingHealthHook(**options)


def test_many_rows_are_counted() -> None:
    rows = [f"a.jsonl:{each}" for each in range(10)]
    assert shorten(rows[:3]) == "a.jsonl:0, a.jsonl:1, a.jsonl:2"
    assert shorten(rows).endswith("a.jsonl:7 and 2 more")
