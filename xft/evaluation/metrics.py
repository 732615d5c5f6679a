"""Adding up what an objective says of many batches."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xft.types import LossOutput


class Tally:
    """Sums of losses, of metrics, and of what each is to be divided by.

    Sums meet only at the end, so that means are over all things, however they were cut into
    batches and shared between ranks. Until then nothing is asked of the device, which so need not
    wait after each batch.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._targets = 0.0
        self._values: dict[str, list[Tensor]] = {}
        self._weights: dict[str, float] = {}

    def add(self, output: LossOutput) -> None:
        """Add what an objective said of a batch."""
        self._losses.append(output.loss_sum.detach())
        self._targets += output.num_targets
        for name, value in output.metrics.items():
            self._values.setdefault(name, []).append(value.detach())
            weight = output.metric_denominators.get(name, output.num_targets)
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def means(self, reduce_sum: Callable[[Sequence[float]], list[float]] = list) -> dict[str, float]:
        """The means over all ranks.

        Args:
            reduce_sum: adds numbers up over all ranks, which must all call this, and must all have
                added a batch of the same objective.

        Returns:
            ``loss``, ``targets`` (their number), and each metric by its name. A metric of which
            there was nothing is left out, and so is the loss.
        """
        names = sorted(self._values)
        loss, *values = _sums([self._losses, *(self._values[each] for each in names)])
        totals = reduce_sum([loss, self._targets, *values, *(self._weights[each] for each in names)])
        loss, targets = totals[:2]
        sums, weights = totals[2 : 2 + len(names)], totals[2 + len(names) :]
        found = {"loss": loss / targets} if targets else {}
        found["targets"] = targets
        means = zip(names, sums, weights, strict=True)
        return found | {name: total / weight for name, total, weight in means if weight}


def _sums(groups: Sequence[Sequence[Tensor]]) -> list[float]:
    """The sum of each group in double precision, with a single wait for the device."""
    flat = [each for group in groups for each in group]
    if not flat:
        return [0.0] * len(groups)
    found = iter(torch.stack([each.to(flat[0].device, torch.float64) for each in flat]).tolist())
    return [float(sum(next(found) for _ in group)) for group in groups]
