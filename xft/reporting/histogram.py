"""Draw histograms as text."""

from collections.abc import Sequence

from xft.data.histogram import Bar


def draw_bars(bars: Sequence[Bar], width: int = 40) -> list[str]:
    """Draw bars as text, one line each; a single bar is omitted."""
    if len(bars) < 2:
        return []
    largest = max(bar.count for bar in bars)
    digits = len(f"{bars[-1].last:,}")
    lines = []
    for bar in bars:
        # Non-empty bars have at least one block.
        length = max(round(width * bar.count / largest), 1 if bar.count else 0)
        label = f"{bar.first:>{digits},} – {bar.last:>{digits},}"
        lines.append(f"{label}  {'█' * length}{' ' if length else ''}{bar.count:,}")
    return lines
