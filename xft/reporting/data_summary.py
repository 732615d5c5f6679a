"""Summarize prepared data: row counts, anomalies, lengths and packing.

One model serves the terminal (:mod:`xft.reporting.summary_format`) and the pages (``templates/_data.html.j2``). It is
built from prepared data, or from ``data_report.json`` of a run folder.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from xft.data import PreparedData
from xft.data.batching.packing import packing_stats
from xft.data.duplicates import THRESHOLD
from xft.data.encoding.encoded import OVERLONG_REASON, QUARANTINE_REASONS
from xft.data.histogram import Bar
from xft.data.sources import RowLocation
from xft.errors import MAX_NAMES
from xft.run_config.config import RunConfig
from xft.run_config.plan import make_plan

MAX_QUARANTINED = 200
"""Quarantined rows shown in a page."""
MAX_ROW_CHARS = 1000
AUTO_PACKING = "data.packing='auto': if the model cannot keep packed samples apart, the run has one sample per row instead"
"""No model is loaded to summarize data."""
ANOMALIES = {
    "exact_duplicates": "with the same tokens as an earlier row",
    "near_duplicates": f"near duplicates: at least {THRESHOLD:.0%} of the token n-grams of an earlier row",
    "rows_with_special_tokens": "contain the text of a special token, which is encoded as that token",
    "rows_with_unknown_characters": "contain characters that the tokenizer cannot encode",
    "rows_without_reasoning": "have reasoning that the chat template leaves out of the last answer",
    "rows_chosen_scored_lower": "score the rejected answer higher; used unchanged",
}


@dataclass(frozen=True)
class Count:
    """Number of rows, and a phrase that follows the number."""

    count: int
    text: str


@dataclass(frozen=True)
class Distribution:
    """Percentiles and histogram of token counts."""

    p50: int
    p95: int
    max: int
    histogram: tuple[Bar, ...]


@dataclass(frozen=True)
class SplitSummary:
    """Size of a split in samples and tokens, and distributions per sample."""

    name: str
    samples: int
    tokens: int
    target_tokens: int
    target_fraction: float
    length: Distribution
    target_length: Distribution


@dataclass(frozen=True)
class Packing:
    """Number of packed rows, their length in tokens, and the fraction of it that is filled."""

    rows: int
    capacity: int
    fill: float


@dataclass(frozen=True)
class QuarantinedRow:
    """Location of a row that does not fit the format, the reason, and the row as text."""

    location: str
    reason: str
    text: str


@dataclass(frozen=True)
class NearDuplicate:
    """Locations of a row and of the earlier row it repeats, and their Jaccard similarity."""

    row: str
    repeats: str
    similarity: float


@dataclass(frozen=True)
class DataSummary:
    """Summary of prepared data.

    Attributes:
        rows: rows read, then rows by outcome; the outcomes add up to the rows read.
        anomalies: properties of rows that deserve attention.
        splits: ``train`` and ``val``.
        packing: ``None`` if rows are not packed.
        notes: on the packing, such as adaptations to small data.
        quarantined: examples of rows that do not fit the format.
        num_quarantined: total number of these rows.
        quarantine_files: files with all of these rows.
        near_duplicates: examples of near duplicates.
        num_near_duplicates: total number of near duplicates.
        columns: notes on columns: the format that was chosen for them, those that it does not read, and those that hold turns as text.
        raw_lengths: tokens per row before truncation, if a row was truncated or dropped for its length.
    """

    rows: tuple[Count, ...]
    anomalies: tuple[Count, ...]
    splits: tuple[SplitSummary, ...]
    packing: Packing | None = None
    notes: tuple[str, ...] = ()
    quarantined: tuple[QuarantinedRow, ...] = ()
    num_quarantined: int = 0
    quarantine_files: tuple[Path, ...] = ()
    near_duplicates: tuple[NearDuplicate, ...] = ()
    num_near_duplicates: int = 0
    columns: tuple[str, ...] = ()
    raw_lengths: str = ""


def summarize_report(report: Mapping[str, Any]) -> DataSummary:
    """Summarize the contents of ``data_report.json``."""
    dropped: dict[str, int] = report.get("rows_dropped", {})
    return DataSummary(
        rows=tuple(_row_counts(report)),
        anomalies=tuple(_anomalies(report)),
        splits=tuple(_split(name, values) for name, values in report.get("splits", {}).items()),
        packing=Packing(**report["packing"]) if report.get("packing") else None,
        quarantined=tuple(map(_quarantined, report.get("quarantined", ()))),
        num_quarantined=sum(dropped.get(reason, 0) for reason in QUARANTINE_REASONS),
        near_duplicates=tuple(
            NearDuplicate(example["row"], example["repeats"], example["jaccard"])
            for example in report.get("near_duplicate_examples", ())
        ),
        num_near_duplicates=report.get("near_duplicates", 0),
        columns=tuple(_columns(report)),
    )


def summarize_data(prepared: PreparedData, recipe: RunConfig | None = None) -> DataSummary:
    """Summarize prepared data.

    Args:
        prepared: the data.
        recipe: config of the run; adds the packing on one device.
    """
    ledger = prepared.report
    summary = summarize_report(ledger.to_dict())
    packed, notes = (None, ()) if recipe is None else summarize_packing(prepared, recipe)
    is_cut = ledger.rows_dropped[OVERLONG_REASON] or ledger.rows_truncated
    return replace(
        summary,
        packing=packed,
        notes=notes,
        quarantined=tuple(islice(_read_quarantine(ledger.quarantine_files), MAX_QUARANTINED))
        or summary.quarantined,
        quarantine_files=tuple(ledger.quarantine_files),
        raw_lengths=ledger.length_summary() if is_cut else "",
    )


def summarize_packing(prepared: PreparedData, recipe: RunConfig) -> tuple[Packing | None, tuple[str, ...]]:
    """Return the packing of the training rows on one device, and notes on adaptations to small data."""
    if not recipe.data.packing:
        return None, ("Not packed: one sample per row.",)
    plan = make_plan(
        prepared.train,
        recipe.training,
        recipe.data.pack_length,
        True,
        recipe.seed,
        samples_per_example=prepared.samples_per_example,
    )
    batches = plan.batches
    assert batches.pack_length is not None
    stats = packing_stats(batches.lengths, batches.epoch_sequences(0), batches.pack_length)
    notes = plan.notes
    if recipe.data.packing == "auto":
        notes = (*notes, AUTO_PACKING)
    return Packing(int(stats["rows"]), int(stats["capacity"]), stats["fill"]), notes


def _row_counts(report: Mapping[str, Any]) -> Iterator[Count]:
    read, available = report.get("rows_read", 0), report.get("rows_available", 0)
    yield Count(read, f"rows read, of {available:,} in the sources" if available > read else "rows read")
    yield Count(report.get("rows_train", 0), "train")
    yield Count(report.get("rows_val", 0), "val")
    for reason, count in report.get("rows_dropped", {}).items():
        if count:
            yield Count(count, f"dropped: {reason}")
    if report.get("rows_truncated"):
        yield Count(report["rows_truncated"], "truncated")


def _anomalies(report: Mapping[str, Any]) -> Iterator[Count]:
    for key, text in ANOMALIES.items():
        if report.get(key):
            yield Count(report[key], text)


def _columns(report: Mapping[str, Any]) -> Iterator[str]:
    for override in report.get("formats", ()):
        yield f"read as {override}, by their names and contents"
    counts: Mapping[str, int] = report.get("ignored_columns", {})
    ignored = [f"{name!r:.60} ({count:,} rows)" for name, count in counts.items()]
    turns = [f"{name!r:.60}" for name in report.get("turn_columns", ())]
    for text, names in (("not read by the format", ignored), ("hold turns as text", turns)):
        more = [f"and {len(names) - MAX_NAMES:,} more"] if len(names) > MAX_NAMES else []
        if names:
            yield f"{text}: {', '.join(names[:MAX_NAMES] + more)}"


def _split(name: str, values: Mapping[str, Any]) -> SplitSummary:
    return SplitSummary(
        name,
        values["samples"],
        values["tokens"],
        values["target_tokens"],
        values["target_share"],
        _distribution(values["length"]),
        _distribution(values["target_length"]),
    )


def _distribution(values: Mapping[str, Any]) -> Distribution:
    bars = tuple(Bar(**bar) for bar in values["histogram"])
    return Distribution(values["p50"], values["p95"], values["max"], bars)


def _quarantined(row: Mapping[str, Any]) -> QuarantinedRow:
    value = row.get("row")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > MAX_ROW_CHARS:
        text = f"{text[:MAX_ROW_CHARS]} … and {len(text) - MAX_ROW_CHARS:,} more characters"
    return QuarantinedRow(
        locate_quarantined(row), str(row.get("reason")), "not readable" if value is None else text
    )


def locate_quarantined(row: Mapping[str, Any]) -> str:
    """Return file and line, or file and row number, of a quarantined row."""
    if "line" in row:
        return str(RowLocation(row["file"], row["line"]))
    return str(RowLocation(row["file"], row["number"], "row"))


def _read_quarantine(files: Iterable[Path]) -> Iterator[QuarantinedRow]:
    for path in files:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield _quarantined(json.loads(line))
