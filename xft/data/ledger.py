"""The ledger: what became of every row."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xft.types import Sample


@dataclass
class Ledger:
    """Counts rows from the file to the model. The books close: rows read are rows trained on,
    validated on, and dropped, each with its reason.

    Attributes:
        rows_read: rows that the sources gave.
        rows_trained: rows in the training split.
        rows_validated: rows in the validation split.
        rows_dropped: reason to number of rows.
        rows_truncated: rows that were cut and kept.
        quarantined: what was set aside because it did not fit the format, and why.
        lengths: tokens of every encoded row, before anything was cut or dropped.
    """

    rows_read: int = 0
    rows_trained: int = 0
    rows_validated: int = 0
    rows_dropped: Counter[str] = field(default_factory=Counter)
    rows_truncated: int = 0
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)

    def close(self, train: Sequence[Sample], val: Sequence[Sample]) -> None:
        """Describe the splits, and check that the books close."""
        gone = self.rows_dropped.total()
        kept = self.rows_trained + self.rows_validated
        assert self.rows_read == kept + gone, f"{self.rows_read} rows read, {kept} kept, {gone} dropped"
        self.splits = {"train": describe(train), "val": describe(val)}

    def length_summary(self) -> str:
        """``p50 = 62, p95 = 120, max = 312``."""
        if not self.lengths:
            return "no rows"
        p50, p95 = np.percentile(self.lengths, [50, 95])
        return f"p50 = {p50:.0f}, p95 = {p95:.0f}, max = {max(self.lengths)}"

    def to_dict(self) -> dict[str, Any]:
        """The ledger as plain data, for ``data_report.json``."""
        return {
            "rows_read": self.rows_read,
            "rows_trained": self.rows_trained,
            "rows_validated": self.rows_validated,
            "rows_dropped": dict(self.rows_dropped),
            "rows_truncated": self.rows_truncated,
            "quarantined": [
                {key: value for key, value in each.items() if key != "row"} for each in self.quarantined
            ],
            "splits": self.splits,
        }


def describe(samples: Sequence[Sample]) -> dict[str, Any]:
    """Figures of a split: samples, tokens, trained tokens, and lengths in tokens."""
    lengths = np.asarray([len(each) for each in samples] or [0])
    tokens = int(lengths.sum())
    targets = sum(each.num_targets for each in samples)
    p50, p95 = np.percentile(lengths, [50, 95])
    counts, edges = np.histogram(lengths, bins=min(10, max(1, len(samples))))
    return {
        "samples": len(samples),
        "tokens": tokens,
        "target_tokens": targets,
        "target_share": round(targets / tokens, 4) if tokens else 0.0,
        "length": {
            "p50": round(float(p50)),
            "p95": round(float(p95)),
            "max": int(lengths.max()),
            "histogram": {
                "edges": [round(float(each)) for each in edges],
                "counts": counts.tolist(),
            },
        },
    }
