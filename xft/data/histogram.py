"""Count integers in bars of equal, round width."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_BARS = 10


@dataclass(frozen=True)
class Bar:
    """One bar of a histogram.

    Attributes:
        first: smallest value in the bar.
        last: largest value in the bar.
        count: number of values from ``first`` to ``last``, both included.
    """

    first: int
    last: int
    count: int


def histogram(values: npt.NDArray[Any], max_bars: int = MAX_BARS) -> tuple[Bar, ...]:
    """Count integers in adjacent bars of equal, round width.

    Outliers would squeeze all other values into the first bar. Values above the 99th percentile are
    therefore counted in the last bar, which is then wider than the others.

    Args:
        values: ``(count,)`` non-negative integers.
        max_bars: maximum number of bars, at least 2.

    Returns:
        Bars from the minimum to the maximum; empty without values.
    """
    if not len(values):
        return ()
    low, high = int(values.min()), int(values.max())
    knee = math.ceil(np.percentile(values, 99))
    width = _round_up((knee - low + 1) / (max_bars - 1))
    begin = low // width * width
    num_bars = (knee - begin) // width + 1
    indices = np.minimum((values.astype(np.int64) - begin) // width, num_bars - 1)
    counts = np.bincount(indices, minlength=num_bars)
    bars = [
        Bar(begin + index * width, begin + (index + 1) * width - 1, int(count))
        for index, count in enumerate(counts)
    ]
    last = bars[-1]
    return (*bars[:-1], Bar(last.first, max(last.last, high), last.count))


def _round_up(width: float) -> int:
    """Return the smallest of 1, 2, 3, 5, 10, 20, 30, 50 … that is at least ``width``."""
    power = 1
    while True:
        for digit in (1, 2, 3, 5):
            if digit * power >= width:
                return digit * power
        power *= 10
