"""Line charts as SVG in the page itself.

They are ours because what libraries give is either a picture in fixed colours, or a megabyte of
script: here colours come from the page's style, so that a chart is right in dark and in print.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from xft.reporting.html import Markup, text
from xft.utils.console import format_bytes

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 70, 12, 10, 34
MOST_POINTS = 300
"""More points than these are put together: to a line of their means; what is faint, to a band from the least
to the greatest."""
HINTS = 150
"""A line of up to so many points says the value of each where the pointer rests on it."""
COLOURS = 8
Point = tuple[float, float | None]
"""A step, and the figure at it; ``None`` where there is none, such as in a step that was left out."""


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: for the legend.
        points: in the order of their steps.
        slot: which of the page's colours it has.
        dots: whether its points are marked.
        faint: whether it stands behind the others.
    """

    name: str
    points: Sequence[Point]
    slot: int = 0
    dots: bool = False
    faint: bool = False


@dataclass(frozen=True)
class _Scale:
    """From values to places in the drawing."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            low, high, value = math.log10(self.low), math.log10(self.high), math.log10(value)
        else:
            low, high = self.low, self.high
        return self.begin + (self.end - self.begin) * (value - low) / (high - low)


def chart(title: str, series: Sequence[Series], unit: str = "") -> Markup:
    """Draw lines over steps.

    Args:
        title: said above it.
        series: the lines. Those without a single figure are left out.
        unit: ``bytes`` for sizes; else it is put behind the numbers of the legend.

    Returns:
        A figure; nothing where there is nothing to draw.
    """
    shown = [each for each in series if any(value is not None for _, value in each.points)]
    if not shown:
        return Markup()
    steps = [step for each in shown for step, _ in each.points]
    values = [value for each in shown for _, value in each.points if value is not None]
    x = _Scale(*_range(min(steps), max(steps), pad=0), LEFT, WIDTH - RIGHT)
    log = min(values) > 0 and max(values) / min(values) > 200
    low, high = (
        (min(values) / 1.2, max(values) * 1.2) if log else _range(min(values), max(values), pad=0.04)
    )
    y = _Scale(low, high, HEIGHT - BOTTOM, TOP, log)
    say = format_bytes if unit == "bytes" else number
    drawing = "".join([*_grid(x, y, say), *(_line(each, x, y, say) for each in shown)])
    label = f"{title}: {', '.join(_summary(each, say, unit) for each in shown if not each.faint)}"
    return Markup(
        f'<figure class="chart"><figcaption>{text(title)}{" (logarithmic)" if log else ""}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(label)}">{drawing}</svg>'
        f"{_legend(shown, say, unit)}</figure>\n"
    )


def _range(low: float, high: float, pad: float) -> tuple[float, float]:
    if low == high:
        # A level line stands in the middle of something.
        around = abs(low) / 2 or 0.5
        return low - around, high + around
    room = (high - low) * pad
    return (0.0 if low >= 0 and low - room < 0 else low - room), high + room


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two others: multiples of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [at * step for at in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    every = max(1, len(powers) // 6)
    return [10.0**each for each in powers][::every]


def number(value: float) -> str:
    """A number in few characters: ``0.0123``, ``1.2e-5``, ``12,340``, ``3.4M``."""
    size = abs(value)
    if size >= 1e6:
        return next(
            f"{value / by:.3g}{name}" for by, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if size >= by
        )
    if size >= 1000:
        return f"{value:,.0f}"
    return (f"{value:.4g}" if size >= 0.01 else f"{value:.3g}").replace("e-0", "e-")


def _grid(x: _Scale, y: _Scale, say: Callable[[float], str]) -> Iterator[str]:
    for value in _log_ticks(y.low, y.high) if y.log else ticks(y.low, y.high, 5):
        at = y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{say(value)}</text>'
    # The first one would stand on the name of the axis.
    whole = [each for each in ticks(x.low, x.high, 6) if each == round(each) and x(each) > LEFT + 12]
    for value in whole:
        anchor = "end" if x(value) > WIDTH - RIGHT - 15 else "middle"
        yield f'<text x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="{anchor}">{value:,.0f}</text>'
    yield f'<text x="{LEFT - 7}" y="{HEIGHT - BOTTOM + 18}" text-anchor="end">step</text>'
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'


def _line(series: Series, x: _Scale, y: _Scale, say: Callable[[float], str]) -> str:
    name = f"s{series.slot % COLOURS}{' faint' if series.faint else ''}"
    parts = []
    if len(series.points) > MOST_POINTS:
        means, least, greatest = _together(series.points)
        if series.faint:
            around = [*least, *reversed(greatest)]
            outline = [f"{x(step):.1f},{y(value):.1f}" for step, value in around if value is not None]
            parts.append(f'<polygon class="band" points="{" ".join(outline)}"/>')
        points: Sequence[Point] = [] if series.faint else means
    else:
        points = series.points
    for drawn, group in groupby(points, key=lambda each: each[1] is not None):
        places = [f"{x(step):.1f},{y(value):.1f}" for step, value in group if value is not None]
        if drawn and len(places) > 1:
            parts.append(f'<polyline points="{" ".join(places)}"/>')
        elif drawn and not series.dots:
            at, below = places[0].split(",")
            parts.append(f'<circle class="dot" cx="{at}" cy="{below}" r="2"/>')
    if series.dots or (len(points) <= HINTS and not series.faint):
        kind = "dot" if series.dots else "hint"
        for step, value in points:
            if value is not None:
                hint = text(f"{series.name}, step {step:,.0f}: {say(value)}")
                parts.append(
                    f'<circle class="{kind}" cx="{x(step):.1f}" cy="{y(value):.1f}" r="{3.2 if series.dots else 5}">'
                    f"<title>{hint}</title></circle>"
                )
    return f'<g class="{name}">{"".join(parts)}</g>'


def _together(points: Sequence[Point]) -> tuple[list[Point], list[Point], list[Point]]:
    """Means, least and greatest of neighbouring points."""
    size = -(-len(points) // MOST_POINTS)
    means: list[Point] = []
    least: list[Point] = []
    greatest: list[Point] = []
    for begin in range(0, len(points), size):
        part = points[begin : begin + size]
        values = [value for _, value in part if value is not None]
        step = part[len(part) // 2][0]
        means.append((step, sum(values) / len(values) if values else None))
        least.append((step, min(values, default=None)))
        greatest.append((step, max(values, default=None)))
    return means, least, greatest


def smooth(points: Sequence[Point], span: float) -> list[Point]:
    """The exponential mean of a line over about ``span`` points, without the pull of its beginning."""
    keep = 1 - 1 / max(span, 1)
    total, weight = 0.0, 0.0
    out: list[Point] = []
    for step, value in points:
        if value is not None:
            total, weight = keep * total + value, keep * weight + 1
        out.append((step, total / weight if weight and value is not None else None))
    return out


def _legend(series: Sequence[Series], say: Callable[[float], str], unit: str) -> str:
    items = [
        f'<li><i class="s{each.slot % COLOURS}"></i>{text(_summary(each, say, unit))}</li>'
        for each in series
        if not each.faint
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _summary(series: Series, say: Callable[[float], str], unit: str) -> str:
    values = [value for _, value in series.points if value is not None]
    behind = f" {unit}" if unit and unit != "bytes" else ""
    change = f"{say(values[0])} → {say(values[-1])}" if len(values) > 1 else say(values[0])
    return f"{series.name} {change}{behind}"
