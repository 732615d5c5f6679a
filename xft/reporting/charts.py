"""Lay out line charts, which the templates draw as inline SVG.

Charting libraries produce images with fixed colors or a megabyte of script. Inline SVG takes its colors
from the style sheet of the page, which also covers dark mode and print.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from xft.utils.console import format_bytes

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 70, 12, 10, 34
MAX_POINTS = 300
"""Longer series are averaged; faint ones become a band from minimum to maximum."""
MAX_HINTED_POINTS = 150
"""Series of at most this length show the value of each point on hover."""
NUM_COLORS = 8
Point = tuple[float, float | None]
"""Step and value; ``None`` for a missing value, e.g. of a skipped step."""


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: for the legend.
        points: sorted by step.
        slot: index of the color.
        dots: whether points are marked.
        faint: whether the line is drawn in the background and left out of the legend.
    """

    name: str
    points: Sequence[Point]
    slot: int = 0
    dots: bool = False
    faint: bool = False


@dataclass(frozen=True)
class Tick:
    """Label of an axis: position of the grid line, position of the text, and the text."""

    at: str
    text: str
    text_at: str = ""
    anchor: str = "middle"


@dataclass(frozen=True)
class Mark:
    """Circle at a point: ``dot`` is always visible, ``hint`` on hover."""

    kind: str
    x: str
    y: str
    radius: float
    hint: str = ""


@dataclass(frozen=True)
class Line:
    """Shapes of one series in SVG coordinates."""

    slot: int
    faint: bool
    band: str
    polylines: tuple[str, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class LegendEntry:
    """Color and text of a series."""

    slot: int
    text: str


@dataclass(frozen=True)
class Chart:
    """Layout of a chart in SVG coordinates."""

    title: str
    label: str
    logarithmic: bool
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    legend: tuple[LegendEntry, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class _Scale:
    """Map from values to SVG coordinates."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.begin + (self.end - self.begin) * (value - low) / (high - low)


Format = Callable[[float], str]


def layout_chart(title: str, series: Sequence[Series], unit: str = "") -> Chart | None:
    """Lay out lines over steps.

    Args:
        title: of the chart.
        series: the lines; those without values are dropped.
        unit: ``bytes`` for sizes; other units are appended to the numbers of the legend.

    Returns:
        The chart, or ``None`` without values.
    """
    shown = [line for line in series if any(value is not None for _, value in line.points)]
    if not shown:
        return None
    steps = [step for line in shown for step, _ in line.points]
    values = [value for line in shown for _, value in line.points if value is not None]
    x = _Scale(*_axis_range(min(steps), max(steps), pad=0), LEFT, WIDTH - RIGHT)
    log = min(values) > 0 and max(values) / min(values) > 200
    low, high = (
        (min(values) / 1.2, max(values) * 1.2) if log else _axis_range(min(values), max(values), pad=0.04)
    )
    y = _Scale(low, high, HEIGHT - BOTTOM, TOP, log)
    text = format_bytes if unit == "bytes" else format_number
    legend = [
        LegendEntry(line.slot % NUM_COLORS, _legend_text(line, text, unit))
        for line in shown
        if not line.faint
    ]
    return Chart(
        title,
        f"{title}: {', '.join(entry.text for entry in legend)}",
        log,
        tuple(_y_ticks(y, text)),
        tuple(_x_ticks(x)),
        tuple(_layout_line(line, x, y, text) for line in shown),
        tuple(legend),
    )


def _axis_range(low: float, high: float, pad: float) -> tuple[float, float]:
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        # A constant line, up to rounding of its moving average, is drawn in the middle.
        around = abs(low) / 2 or 0.5
        return low - around, high + around
    margin = (high - low) * pad
    return (0.0 if low >= 0 and low - margin < 0 else low - margin), high + margin


def ticks(low: float, high: float, max_count: int) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten within a range."""
    raw = (high - low) / max_count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    exponents = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    stride = max(1, len(exponents) // 6)
    return [10.0**exponent for exponent in exponents][::stride]


def format_number(value: float) -> str:
    """Format a number in few characters: ``0.0123``, ``1.2e-5``, ``12,340``, ``3.4M``."""
    size = abs(value)
    if size >= 1e6:
        scale, suffix = next(
            (scale, s) for scale, s in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if size >= scale
        )
        return f"{value / scale:.3g}{suffix}"
    if size >= 1000:
        return f"{value:,.0f}"
    return (f"{value:.4g}" if size >= 0.01 else f"{value:.3g}").replace("e-0", "e-")


def _y_ticks(y: _Scale, text: Format) -> Iterator[Tick]:
    for value in _log_ticks(y.low, y.high) if y.log else ticks(y.low, y.high, 5):
        at = y(value)
        yield Tick(f"{at:.1f}", text(value), f"{at + 4:.1f}")


def _x_ticks(x: _Scale) -> Iterator[Tick]:
    for value in ticks(x.low, x.high, 6):
        # A tick at the left edge would overlap the name of the axis.
        if value == round(value) and x(value) > LEFT + 12:
            anchor = "end" if x(value) > WIDTH - RIGHT - 15 else "middle"
            yield Tick(f"{x(value):.1f}", f"{value:,.0f}", anchor=anchor)


def _layout_line(series: Series, x: _Scale, y: _Scale, text: Format) -> Line:
    points, band = series.points, ""
    if len(points) > MAX_POINTS:
        means, minima, maxima = _downsample(points)
        if series.faint:
            outline = [*minima, *reversed(maxima)]
            band = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in outline if value is not None)
        points = [] if series.faint else means
    polylines: list[str] = []
    marks: list[Mark] = []
    for has_value, group in groupby(points, key=lambda point: point[1] is not None):
        places = [(f"{x(step):.1f}", f"{y(value):.1f}") for step, value in group if value is not None]
        if has_value and len(places) > 1:
            polylines.append(" ".join(f"{cx},{cy}" for cx, cy in places))
        elif has_value and not series.dots:
            marks.append(Mark("dot", *places[0], 2))
    if series.dots or (len(points) <= MAX_HINTED_POINTS and not series.faint):
        kind, radius = ("dot", 3.2) if series.dots else ("hint", 5)
        for step, value in points:
            if value is not None:
                hint = f"{series.name}, step {step:,.0f}: {text(value)}"
                marks.append(Mark(kind, f"{x(step):.1f}", f"{y(value):.1f}", radius, hint))
    return Line(series.slot % NUM_COLORS, series.faint, band, tuple(polylines), tuple(marks))


def _downsample(points: Sequence[Point]) -> tuple[list[Point], list[Point], list[Point]]:
    """Return mean, minimum and maximum of groups of neighboring points."""
    size = -(-len(points) // MAX_POINTS)
    means: list[Point] = []
    minima: list[Point] = []
    maxima: list[Point] = []
    for begin in range(0, len(points), size):
        group = points[begin : begin + size]
        values = [value for _, value in group if value is not None]
        step = group[len(group) // 2][0]
        means.append((step, sum(values) / len(values) if values else None))
        minima.append((step, min(values, default=None)))
        maxima.append((step, max(values, default=None)))
    return means, minima, maxima


def smooth(points: Sequence[Point], span: float) -> list[Point]:
    """Return the bias-corrected exponential moving average over about ``span`` points."""
    decay = 1 - 1 / max(span, 1)
    total, weight = 0.0, 0.0
    smoothed: list[Point] = []
    for step, value in points:
        if value is not None:
            total, weight = decay * total + value, decay * weight + 1
        smoothed.append((step, total / weight if weight and value is not None else None))
    return smoothed


def _legend_text(series: Series, text: Format, unit: str) -> str:
    values = [value for _, value in series.points if value is not None]
    suffix = f" {unit}" if unit and unit != "bytes" else ""
    change = f"{text(values[0])} → {text(values[-1])}" if len(values) > 1 else text(values[0])
    return f"{series.name} {change}{suffix}"
