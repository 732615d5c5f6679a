"""Format a data summary as lines for the terminal."""

from xft.data.encoding.encoded import QUARANTINE_REASONS
from xft.reporting.data_summary import ANOMALIES, Count, DataSummary, SplitSummary
from xft.reporting.histogram import draw_bars

_MAX_EXAMPLES = 3


def format_summary(summary: DataSummary) -> list[str]:
    """Format a summary as lines for the terminal."""
    lines: list[str] = []
    reasons = [
        count.text for count in summary.rows if count.text.removeprefix("dropped: ") in QUARANTINE_REASONS
    ]
    for count in summary.rows:
        lines.append(_count_line(count))
        if count.text in reasons[-1:]:
            lines += _quarantine_lines(summary)
    if summary.raw_lengths:
        lines.append(_detail_line(f"tokens per row before truncation: {summary.raw_lengths}"))
    for count in summary.anomalies:
        lines.append(_count_line(count))
        if count.text == ANOMALIES["near_duplicates"]:
            lines += _near_duplicate_lines(summary)
    lines += [f"{'columns':>9} {columns}" for columns in summary.columns]
    for split in summary.splits:
        lines += ["", *_split_lines(split)]
    if summary.packing is not None:
        rows, capacity, fill = summary.packing.rows, summary.packing.capacity, summary.packing.fill
        lines += ["", f"packed into {rows:,} rows of {capacity:,} tokens, {fill:.1%} filled"]
        lines += [f"note: {note}" for note in summary.notes]
    return lines


def _count_line(count: Count) -> str:
    return f"{count.count:>9,} {count.text}"


def _detail_line(text: str) -> str:
    return f"{'':>9}   {text}"


def _quarantine_lines(summary: DataSummary) -> list[str]:
    rows = summary.quarantined[:_MAX_EXAMPLES]
    lines = [f"{row.location}: {row.reason}" for row in rows]
    lines += ["…"] if summary.num_quarantined > len(rows) else []
    lines += [f"full list with reasons: {file}" for file in summary.quarantine_files]
    return [_detail_line(line) for line in lines]


def _near_duplicate_lines(summary: DataSummary) -> list[str]:
    rows = summary.near_duplicates[:_MAX_EXAMPLES]
    lines = [f"{row.row} repeats {row.repeats} ({row.similarity:.0%})" for row in rows]
    lines += ["…"] if summary.num_near_duplicates > len(rows) else []
    return [_detail_line(line) for line in lines]


def _split_lines(split: SplitSummary) -> list[str]:
    plural = "s" * (split.samples != 1)
    lines = [
        f"{split.name:<6}{split.samples:,} sample{plural}, {split.tokens:,} tokens, {split.target_tokens:,} targets "
        f"({split.target_fraction:.0%})"
    ]
    if not split.samples:
        return lines
    for title, values in (("tokens per sample", split.length), ("targets per sample", split.target_length)):
        lines.append(f"      {title:<20}p50 {values.p50:>7,}   p95 {values.p95:>7,}   max {values.max:>7,}")
    return lines + [f"        {line}" for line in draw_bars(split.length.histogram)]
