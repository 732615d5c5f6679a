"""Bars as text."""

from xft.data.histogram import Bar
from xft.reporting.histogram import draw_bars


def test_draw_bars_shows_small_counts_and_omits_a_single_bar() -> None:
    assert draw_bars([Bar(0, 9, 1000), Bar(10, 19, 1), Bar(20, 29, 0)], width=4) == [
        " 0 –  9  ████ 1,000",
        "10 – 19  █ 1",
        "20 – 29  0",
    ]
    assert draw_bars([Bar(0, 9, 5)]) == []
