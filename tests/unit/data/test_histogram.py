"""Histograms against a second count."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xft.data.histogram import histogram


@given(values=st.lists(st.integers(0, 5000), min_size=1, max_size=300), max_bars=st.integers(2, 15))
def test_histogram_counts_every_value_in_its_bar(values: list[int], max_bars: int) -> None:
    bars = histogram(np.array(values, dtype=np.int32), max_bars)
    assert 1 <= len(bars) <= max_bars
    assert [bar.count for bar in bars] == [
        sum(bar.first <= value <= bar.last for value in values) for bar in bars
    ]
    assert sum(bar.count for bar in bars) == len(values)
    assert all(after.first == before.last + 1 for before, after in pairwise(bars))
    assert len({bar.last - bar.first for bar in bars[:-1]}) <= 1


def test_histogram_edges_are_round() -> None:
    bars = histogram(np.arange(13, 94), max_bars=10)
    assert [(bar.first, bar.last, bar.count) for bar in bars] == [
        (10, 19, 7),
        *((begin, begin + 9, 10) for begin in range(20, 90, 10)),
        (90, 99, 4),
    ]


def test_histogram_with_outlier_keeps_resolution() -> None:
    bars = histogram(np.array([*range(100), *range(100), 1_000_000]), max_bars=11)
    assert len(bars) >= 8
    assert bars[0].count == 20
    assert bars[-1].last == 1_000_000


def test_histogram_without_values_is_empty() -> None:
    assert histogram(np.empty(0, np.int32)) == ()
