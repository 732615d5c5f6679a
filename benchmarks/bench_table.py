"""What the benchmarks measured, as a table in the documentation."""

import statistics
import sys
from pathlib import Path

MARKS = ("<!-- benchmark -->", "<!-- end of benchmark -->")
"""Around the table in the documentation."""


def table(rounds: dict[str, list[dict[str, float]]], first: str, notes: dict[str, str]) -> str:
    """A table in Markdown; ratios are within a round, with the lowest and the highest of them."""
    lines = [
        f"| | tokens/s | of them trained | {first} is faster by | MFU | peak GiB | validation loss |",
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
    """Replace what stands between two marks of a file.

    Raises:
        SystemExit: the marks are not there.
    """
    before, begin, rest = file.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        sys.exit(
            f"{file}: has no {marks[0]} with {marks[1]} behind it; put both where the table shall stand"
        )
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
