"""Format benchmark results as a table, and write it into a page of the documentation."""

import statistics
import sys
from pathlib import Path

MARKS = ("<!-- benchmark -->", "<!-- end of benchmark -->")
"""Comments before and after the table in the documentation."""


def table(rounds: dict[str, list[dict[str, float]]], first: str, notes: dict[str, str]) -> str:
    """Return a Markdown table; ratios are computed within a round: median, minimum and maximum."""
    lines = [
        f"| | tokens/s | target tokens/s | speedup of {first} | MFU | peak GiB | validation loss |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in rounds.items():
        ratios = [one["tokens"] / two["tokens"] for one, two in zip(rounds[first], each, strict=True)]

        def middle(key: str, each: list[dict[str, float]] = each) -> float:
            return statistics.median(one[key] for one in each)

        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        padding = 1 - middle("tokens") / middle("total")
        label = f"{name}: {notes[name]}" + (f"; {padding:.0%} padding" if padding > 0.005 else "")
        lines.append(
            f"| {label} | {middle('tokens'):.0f} | {middle('targets'):.0f} | {spread} | {middle('mfu'):.0%} | "
            f"{middle('peak'):.2f} | {middle('loss'):.4f} |"
        )
    return "\n".join(lines)


def write_between(file: Path, text: str, marks: tuple[str, str] = MARKS) -> None:
    """Replace the text between two marks of a file.

    Raises:
        SystemExit: a mark is missing.
    """
    before, begin, rest = file.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        sys.exit(f"{file}: has no {marks[0]} followed by {marks[1]}; insert both where the table belongs")
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
