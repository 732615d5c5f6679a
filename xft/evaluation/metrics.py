"""Accumulate losses and metrics over batches."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xft.types import LossOutput


class MetricAccumulator:
    """Sums of losses and metrics, and their denominators.

    Sums are divided at the end only, so that a mean does not depend on the split into batches and ranks. The device is
    not synchronized before that.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._targets = 0.0
        self._values: dict[str, list[Tensor]] = {}
        self._denominators: dict[str, float] = {}

    def add(self, output: LossOutput) -> None:
        """Add the output of an objective for one batch: a scalar ``loss_sum``, and scalar metrics."""
        self._losses.append(output.loss_sum.detach())
        self._targets += output.num_targets
        for name, value in output.metrics.items():
            self._values.setdefault(name, []).append(value.detach())
            denominator = output.metric_denominators.get(name, output.num_targets)
            self._denominators[name] = self._denominators.get(name, 0.0) + denominator

    def means(self, reduce_sum: Callable[[Sequence[float]], list[float]] = list) -> dict[str, float]:
        """Return the means over all ranks.

        Args:
            reduce_sum: sums numbers over all ranks. All ranks must call this method, and must have added a batch of the
                same objective.

        Returns:
            ``loss`` per target, in the unit of the objective (nats for likelihoods), ``targets`` (their number), and each
            metric per target, or per what its ``metric_denominators`` count. A mean with denominator 0 is omitted.
        """
        names = sorted(self._values)
        loss, *values = _sums([self._losses, *(self._values[name] for name in names)])
        denominators = [self._denominators[name] for name in names]
        loss, targets, *totals = reduce_sum([loss, self._targets, *values, *denominators])
        result = {"loss": loss / targets} if targets else {}
        result["targets"] = targets
        means = zip(names, totals[: len(names)], totals[len(names) :], strict=True)
        return result | {name: total / denominator for name, total, denominator in means if denominator}


def _sums(groups: Sequence[Sequence[Tensor]]) -> list[float]:
    """Return the sum of each group in double precision, with one synchronization of the device."""
    flat = [tensor for group in groups for tensor in group]
    if not flat:
        return [0.0] * len(groups)
    values = iter(torch.stack([tensor.to(flat[0].device, torch.float64) for tensor in flat]).tolist())
    return [float(sum(next(values) for _ in group)) for group in groups]
