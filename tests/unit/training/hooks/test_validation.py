import math
from collections.abc import Sequence

import pytest
import torch
from helpers.preferences import pair_samples, whole_model
from helpers.runner import FakeRunner

from xft.data import Collator
from xft.models import TrainingModel
from xft.objectives import next_token
from xft.training.hooks.validation import ValidationHook, _format_metrics
from xft.types import Sample


class _FixedMetrics(ValidationHook):
    """Return fixed metrics instead of running the model."""

    def measure(self, runner: object, samples: Sequence[Sample]) -> dict[str, float]:
        return {"loss": 2.0, "perplexity": math.inf}


def _runner(num_steps: int = 10) -> FakeRunner:
    runner = FakeRunner(num_steps=num_steps)
    runner.val_samples = pair_samples()
    return runner


def test_new_run_is_evaluated_before_the_first_step_and_at_intervals() -> None:
    hook, runner = _FixedMetrics(interval=4), _runner()
    hook.before_train(runner)
    for step in range(1, 11):
        runner.train_loop.step = step
        hook.after_train_iter(runner, step - 1, [], {})
    assert [record["step"] for record in runner.recorder.records] == [0, 4, 8, 10]
    assert [name for name, _ in runner.calls] == ["after_validation"] * 4


def test_run_that_stops_early_is_evaluated_at_its_last_step() -> None:
    hook, runner = _FixedMetrics(interval=4), _runner()
    for step in (1, 2):
        runner.train_loop.step = step
        runner.train_loop.stop_reason = "the reward is reached" if step == 2 else None
        hook.after_train_iter(runner, step - 1, [], {})
    assert [record["step"] for record in runner.recorder.records] == [2]


def test_resumed_run_is_not_evaluated_before_its_first_step() -> None:
    hook, runner = _FixedMetrics(), _runner()
    runner.train_loop.step = 5
    hook.before_train(runner)
    assert runner.recorder.records == runner.calls == []


def test_nonfinite_metrics_reach_hooks_and_are_not_recorded() -> None:
    hook, runner = _FixedMetrics(), _runner()
    hook.before_train(runner)
    assert runner.recorder.records == [{"step": 0, "split": "val", "loss": 2.0}]
    assert runner.calls == [("after_validation", {"metrics": {"loss": 2.0, "perplexity": math.inf}})]


def test_run_without_validation_split_records_nothing() -> None:
    hook, runner = _FixedMetrics(), FakeRunner()
    hook.before_train(runner)
    assert runner.recorder.records == runner.calls == []


def test_measure_is_independent_of_batch_size_and_equals_the_objective() -> None:
    runner, samples = _runner(), pair_samples()
    model = TrainingModel(whole_model(), next_token)
    runner.strategy.model = model
    runner.train_loop.collator = Collator()
    with torch.no_grad():
        output = model(Collator().collate(samples, list(range(len(samples)))))
    expected = float(output.loss_sum) / output.num_targets
    for batch_size in (1, 3, 8):
        metrics = ValidationHook(batch_size=batch_size).measure(runner, samples)
        assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
        assert metrics["target_tokens"] == output.num_targets


def test_suggest_less_memory_halves_the_batch_of_its_own_phase() -> None:
    assert str(ValidationHook(batch_size=8).suggest_less_memory("validation")).startswith("batch_size=4 ")
    assert ValidationHook(batch_size=1).suggest_less_memory("validation") is None
    assert ValidationHook().suggest_less_memory("forward") is None


def test_format_metrics_shows_preference_metrics_if_there_are_any() -> None:
    metrics = {"loss": 0.5, "rewards/accuracies": 0.75, "rewards/margins": -0.1234, "logps/chosen": -3.0}
    assert _format_metrics(metrics) == "loss 0.5000  rewards/accuracies 75.0%  rewards/margins -0.123"
