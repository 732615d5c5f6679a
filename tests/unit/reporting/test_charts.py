"""Positions of points, ticks and labels in the drawn SVG."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xft.reporting import charts
from xft.reporting.charts import MAX_POINTS, Series, format_number, layout_chart, smooth, ticks
from xft.reporting.html import environment


def draw(title: str, series: list[Series]) -> ElementTree.Element:
    """Return the SVG element of a chart, parsed as XML, which must be well-formed."""
    macros = environment().get_template("_chart.html.j2").make_module()
    page = str(macros.draw_chart(layout_chart(title, series)))  # type: ignore[attr-defined]
    match = re.search(r"<svg.*</svg>", page, re.DOTALL)
    assert match is not None
    return ElementTree.fromstring(match[0])


def points_of(svg: ElementTree.Element, tag: str = "polyline") -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (point.split(",") for point in line.get("points", "").split())]
        for line in svg.iter(tag)
    ]


def test_points_are_drawn_in_proportion() -> None:
    [line] = points_of(draw("Loss", [Series("training", [(0, 1.0), (10, 3.0), (40, 2.0)])]))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert (x1 - x0) / (x2 - x0) == pytest.approx(0.25, abs=0.01)
    assert (y0 - y2) / (y0 - y1) == pytest.approx(0.5, abs=0.01)
    assert y1 < y2 < y0  # larger values are higher


def test_axis_labels_match_the_line() -> None:
    """The line through two labels gives the values of the points."""
    svg = draw("Loss", [Series("training", [(1, 1.25), (9, 4.75)])])
    labels = [
        (float(label.text or ""), float(label.get("y", "")) - 4)
        for label in svg.iter("text")
        if re.fullmatch(r"[\d.]+", label.text or "") and label.get("text-anchor") == "end"
    ]
    (low, y_low), (high, y_high) = labels[0], labels[-1]
    [line] = points_of(svg)
    for (_, y), value in zip(line, (1.25, 4.75), strict=True):
        assert low + (y - y_low) * (high - low) / (y_high - y_low) == pytest.approx(value, abs=0.03)


def test_missing_values_leave_gaps() -> None:
    values = [1.0, 2.0, None, 3.0, 4.0, None, None, 5.0]
    svg = draw("Loss", [Series("training", list(enumerate(values)))])
    assert [len(line) for line in points_of(svg)] == [2, 2]
    # A single value between gaps is a dot.
    assert [circle.get("r") for circle in svg.iter("circle") if circle.get("class") == "dot"] == ["2"]


@pytest.mark.parametrize("points", [[], [(1, None)], [(1, None), (2, None)]])
def test_layout_chart_without_values_is_none(points: list[charts.Point]) -> None:
    assert layout_chart("Loss", [Series("training", points)]) is None


@pytest.mark.parametrize(
    "points", [[(5, 0.0)], [(1, 0.0), (2, 0.0)], [(3, -2.5)], [(1, 1e-300), (2, 1e300)]]
)
def test_degenerate_series_stay_inside_the_axes(points: list[charts.Point]) -> None:
    svg = draw("x", [Series("x", points, dots=True)])
    for circle in svg.iter("circle"):
        assert charts.LEFT <= float(circle.get("cx", "")) <= charts.WIDTH - charts.RIGHT
        assert charts.TOP <= float(circle.get("cy", "")) <= charts.HEIGHT - charts.BOTTOM


def test_long_series_become_means_and_a_band() -> None:
    points = [(step, float(step % 2)) for step in range(10 * MAX_POINTS)]
    svg = draw("x", [Series("x", points, faint=True), Series("x", points)])
    [line] = points_of(svg)
    assert len(line) == MAX_POINTS
    # The mean of zeros and ones is halfway between minimum and maximum.
    [band] = points_of(svg, "polygon")
    heights = sorted({y for _, y in band})
    assert len(heights) == 2
    assert [y for _, y in line] == [pytest.approx(sum(heights) / 2, abs=0.1)] * MAX_POINTS


def test_hostile_names_stay_text() -> None:
    name = '"><script>alert(1)</script>'
    svg = draw(name, [Series(name, [(1, 1.0), (2, 2.0)], dots=True)])
    assert name in [title.text.partition(",")[0] for title in svg.iter("title") if title.text]
    assert {element.tag for element in svg.iter()} <= {
        "svg",
        "g",
        "line",
        "text",
        "polyline",
        "circle",
        "title",
    }


@given(st.floats(-1e4, 1e4), st.floats(0.01, 1e6), st.integers(2, 8))
def test_ticks_are_round_inside_and_even(low: float, span: float, max_count: int) -> None:
    values = ticks(low, low + span, max_count)
    assert len(values) <= max_count + 1
    slack = span * 1e-6
    assert all(low - slack <= value <= low + span + slack for value in values)
    gaps = {round((after - before) / span, 6) for before, after in pairwise(values)}
    assert len(gaps) <= 1
    for gap in gaps:
        assert re.fullmatch(r"[125]0*", f"{gap * span:.0e}".partition("e")[0])


def test_smooth_keeps_a_constant_and_starts_at_the_first_point() -> None:
    level = [(step, 3.0) for step in range(20)]
    assert [value for _, value in smooth(level, 5)] == [pytest.approx(3.0)] * 20
    assert smooth([(1, 8.0), (2, 2.0)], 5)[0] == (1, 8.0)
    # Computed by hand, span 2: (0.5 x 8 + 2) / (0.5 + 1) = 4.
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
def test_format_number_is_short(value: float, text: str) -> None:
    assert format_number(value) == text
