"""Adding up what an objective says of many batches."""

from collections.abc import Callable, Sequence

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
            weight = output.weights.get(name, output.num_targets)
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
        totals = reduce_sum(
            [_sum(self._losses), self._targets]
            + [_sum(self._values[each]) for each in names]
            + [self._weights[each] for each in names]
        )
        loss, targets = totals[:2]
        sums, weights = totals[2 : 2 + len(names)], totals[2 + len(names) :]
        found = {"loss": loss / targets} if targets else {}
        found["targets"] = targets
        means = zip(names, sums, weights, strict=True)
        return found | {name: total / weight for name, total, weight in means if weight}


def _sum(values: Sequence[Tensor]) -> float:
    """In double precision, on the host."""
    return float(sum(float(each) for each in values))
