"""Charts: what is drawn is where its numbers say."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xft.reporting import charts
from xft.reporting.charts import MOST_POINTS, Series, chart, number, smooth, ticks


def drawn(source: str) -> ElementTree.Element:
    """The drawing, by another parser: it must be well-formed."""
    found = re.search(r"<svg.*</svg>", source, re.DOTALL)
    assert found is not None
    return ElementTree.fromstring(found[0])


def places(source: str, tag: str = "polyline") -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (each.split(",") for each in line.get("points", "").split())]
        for line in drawn(source).iter(tag)
    ]


def test_points_stand_in_proportion() -> None:
    [line] = places(chart("Loss", [Series("training", [(0, 1.0), (10, 3.0), (40, 2.0)])]))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert (x1 - x0) / (x2 - x0) == pytest.approx(0.25, abs=0.01)
    assert (y0 - y2) / (y0 - y1) == pytest.approx(0.5, abs=0.01)
    assert y1 < y2 < y0  # greater is higher


def test_the_numbers_at_the_side_are_where_the_line_is() -> None:
    """Read the axis with a ruler: the line through two labels gives the values of the points."""
    source = chart("Loss", [Series("training", [(1, 1.25), (9, 4.75)])])
    labels = [
        (float(each.text or ""), float(each.get("y", "")) - 4)
        for each in drawn(source).iter("text")
        if re.fullmatch(r"[\d.]+", each.text or "") and each.get("text-anchor") == "end"
    ]
    (low, y_low), (high, y_high) = labels[0], labels[-1]
    [line] = places(source)
    for (_, y), value in zip(line, (1.25, 4.75), strict=True):
        assert low + (y - y_low) * (high - low) / (y_high - y_low) == pytest.approx(value, abs=0.03)


def test_a_figure_that_is_none_leaves_a_gap() -> None:
    values = [1.0, 2.0, None, 3.0, 4.0, None, None, 5.0]
    source = chart("Loss", [Series("training", list(enumerate(values)))])
    assert [len(each) for each in places(source)] == [2, 2]
    # One that stands alone between gaps is a dot.
    assert [each.get("r") for each in drawn(source).iter("circle") if each.get("class") == "dot"] == ["2"]


@pytest.mark.parametrize("points", [[], [(1, None)], [(1, None), (2, None)]])
def test_nothing_is_drawn_of_nothing(points: list[charts.Point]) -> None:
    assert chart("Loss", [Series("training", points)]) == ""


@pytest.mark.parametrize(
    "points", [[(5, 0.0)], [(1, 0.0), (2, 0.0)], [(3, -2.5)], [(1, 1e-300), (2, 1e300)]]
)
def test_odd_lines_are_drawn_inside(points: list[charts.Point]) -> None:
    source = chart("x", [Series("x", points, dots=True)])
    for each in drawn(source).iter("circle"):
        assert charts.LEFT <= float(each.get("cx", "")) <= charts.WIDTH - charts.RIGHT
        assert charts.TOP <= float(each.get("cy", "")) <= charts.HEIGHT - charts.BOTTOM


def test_many_points_become_means_in_a_band() -> None:
    points = [(step, float(step % 2)) for step in range(10 * MOST_POINTS)]
    source = chart("x", [Series("x", points, faint=True), Series("x", points)])
    [line] = places(source)
    assert len(line) == MOST_POINTS
    # The mean of zeros and ones is halfway between the least and the greatest.
    [band] = places(source, "polygon")
    heights = sorted({y for _, y in band})
    assert len(heights) == 2
    assert [y for _, y in line] == [pytest.approx(sum(heights) / 2, abs=0.1)] * MOST_POINTS


def test_a_hostile_name_stays_text() -> None:
    name = '"><script>alert(1)</script>'
    source = chart(name, [Series(name, [(1, 1.0), (2, 2.0)], dots=True)])
    assert "<script" not in source
    assert name in [each.text.partition(",")[0] for each in drawn(source).iter("title") if each.text]


@given(st.floats(-1e4, 1e4), st.floats(0.01, 1e6), st.integers(2, 8))
def test_ticks_are_round_inside_and_even(low: float, span: float, most: int) -> None:
    found = ticks(low, low + span, most)
    assert len(found) <= most + 1
    slack = span * 1e-6
    assert all(low - slack <= each <= low + span + slack for each in found)
    gaps = {round((after - before) / span, 6) for before, after in pairwise(found)}
    assert len(gaps) <= 1
    for gap in gaps:
        assert re.fullmatch(r"[125]0*", f"{gap * span:.0e}".partition("e")[0])


def test_smoothing_keeps_a_level_line_and_begins_at_the_first_point() -> None:
    level = [(step, 3.0) for step in range(20)]
    assert [value for _, value in smooth(level, 5)] == [pytest.approx(3.0)] * 20
    assert smooth([(1, 8.0), (2, 2.0)], 5)[0] == (1, 8.0)
    # By hand, span 2: (0.5 x 8 + 2) / (0.5 + 1) = 4.
    assert smooth([(1, 8.0), (2, 2.0)], 2)[1][1] == pytest.approx(4.0)
    assert smooth([(1, 8.0), (2, None), (3, 2.0)], 2) == [(1, 8.0), (2, None), (3, pytest.approx(4.0))]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.0005, "0.0005"),
        (1.234e-5, "1.23e-5"),
        (0.12345, "0.1235"),
        (12.0, "12"),
        (12340.0, "12,340"),
        (3.4e6, "3.4M"),
        (-2.5, "-2.5"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
