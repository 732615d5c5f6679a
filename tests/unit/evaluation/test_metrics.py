"""Means of metrics over batches and ranks, by hand."""

from collections.abc import Sequence

import torch

from xft.evaluation.metrics import MetricAccumulator
from xft.types import LossOutput


def _output(
    loss: float, targets: int, weights: dict[str, float] | None = None, **metrics: float
) -> LossOutput:
    tensors = {name: torch.tensor(value) for name, value in metrics.items()}
    return LossOutput(torch.tensor(loss), targets, tensors, weights or {})


def test_means_divide_by_the_denominator_of_each_metric() -> None:
    """Loss (6 + 2) / (3 + 1); a over targets; b over its denominator 2 + 8; c over 0, which is omitted."""
    accumulator = MetricAccumulator()
    accumulator.add(_output(6.0, 3, {"b": 2, "c": 0}, a=3.0, b=1.0, c=0.0))
    accumulator.add(_output(2.0, 1, {"b": 8, "c": 0}, a=0.0, b=4.0, c=0.0))
    assert accumulator.means() == {"loss": 2.0, "targets": 4.0, "a": 0.75, "b": 0.5}


def test_means_of_several_ranks_are_of_their_sums() -> None:
    """Another rank with loss 10 over 4 targets, a 1, b 3 over 2: the order is loss, targets, the sums
    by name, their weights by name."""
    other = [10.0, 4.0, 1.0, 3.0, 4.0, 2.0]

    def reduce_sum(values: Sequence[float]) -> list[float]:
        return [mine + theirs for mine, theirs in zip(values, other, strict=True)]

    accumulator = MetricAccumulator()
    accumulator.add(_output(2.0, 2, {"b": 4}, b=6.0, a=2.0))
    assert accumulator.means(reduce_sum) == {"loss": 2.0, "targets": 6.0, "a": 0.5, "b": 1.5}


def test_means_without_batches_have_no_loss() -> None:
    assert MetricAccumulator().means() == {"targets": 0.0}
