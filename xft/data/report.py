"""The data report: counts of every row, from the file to the splits."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xft.data.histogram import histogram
from xft.data.store.sample_view import SampleView
from xft.data.store.token_store import TokenStore

_EXAMPLES = 10


@dataclass
class DataReport:
    """Counts of rows, from the file to the model.

    The counts balance: ``rows_read = rows_train + rows_val + sum(rows_dropped)``.

    Attributes:
        rows_available: rows of the sources; more than ``rows_read`` if the config selects some of
            them (``rows.jsonl#500``).
        rows_read: rows read from the sources.
        rows_train: rows in the training split.
        rows_val: rows in the validation split.
        rows_dropped: reason to number of rows.
        rows_truncated: rows that were truncated and kept.
        rows_with_special_tokens: rows that spell a special token, which is encoded as that token.
        rows_with_unknown_characters: rows with a character that the tokenizer has no token for.
        rows_without_reasoning: rows with the reasoning of the last answer, which the chat template leaves out.
        rows_chosen_scored_lower: pairs whose own scores rank the rejected answer higher.
        images: counts of ``images``, ``image_tokens``, and of images whose pixels are changed: ``turned`` by their EXIF
            data, ``animated`` (the first frame is used), ``converted`` to RGB. Empty without images.
        formats: formats that ``data.format='auto'`` has chosen, as overrides.
        ignored_columns: columns, and keys of turns (``messages[].key``), that the format has not read, with the number
            of rows that have them filled.
        turn_columns: columns of tables that hold turns as text.
        exact_duplicates: rows whose tokens equal those of an earlier row.
        near_duplicates: rows that nearly repeat an earlier row.
        near_examples: some of these: earlier row, later row, Jaccard index of their token sequences.
        quarantined: examples of quarantined rows, with the reason.
        quarantine_files: files with all quarantined rows.
        lengths: ``(rows,)`` tokens of every encoded row, before truncation and dropping.
        splits: figures of each split, see ``split_stats``.
    """

    rows_available: int = 0
    rows_read: int = 0
    rows_train: int = 0
    rows_val: int = 0
    rows_dropped: Counter[str] = field(default_factory=Counter)
    rows_truncated: int = 0
    rows_with_special_tokens: int = 0
    rows_with_unknown_characters: int = 0
    rows_without_reasoning: int = 0
    rows_chosen_scored_lower: int = 0
    images: Counter[str] = field(default_factory=Counter)
    formats: list[str] = field(default_factory=list)
    ignored_columns: Counter[str] = field(default_factory=Counter)
    turn_columns: list[str] = field(default_factory=list)
    exact_duplicates: int = 0
    near_duplicates: int = 0
    near_examples: list[tuple[str, str, float]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    quarantine_files: list[Path] = field(default_factory=list)
    lengths: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add_source(self, store: TokenStore) -> None:
        """Add the counts of a source."""
        stats = store.stats
        self.rows_available += stats["rows_available"]
        self.rows_read += stats["rows_read"]
        self.rows_dropped.update(stats["rows_dropped"])
        self.rows_truncated += stats["rows_truncated"]
        self.rows_with_special_tokens += stats["rows_with_special_tokens"]
        self.rows_with_unknown_characters += stats["rows_with_unknown_characters"]
        self.rows_without_reasoning += stats["rows_without_reasoning"]
        self.rows_chosen_scored_lower += stats["rows_chosen_scored_lower"]
        counts = {name: stats[name] for name in ("images", "image_tokens")}
        changes = {name: stats[f"images_{name}"] for name in ("turned", "animated", "converted")}
        self.images += Counter(counts) + Counter(changes)
        self.ignored_columns.update(stats["ignored_columns"])
        self._add_turn_columns(stats["turn_columns"])
        self.near_duplicates += stats["near_duplicates"]
        for earlier, later, jaccard in stats["near_examples"][: _EXAMPLES - len(self.near_examples)]:
            self.near_examples.append((store.origin(earlier), store.origin(later), jaccard))
        self.quarantined += stats["quarantine_examples"]
        if stats["quarantined"]:
            self.quarantine_files.append(store.folder / "quarantine.jsonl")
        self.lengths = np.concatenate([self.lengths, store.rows["length"], store.too_long])

    def merge(self, other: "DataReport") -> None:
        """Add the counts of another dataset of a mixture."""
        self.rows_available += other.rows_available
        self.rows_read += other.rows_read
        self.rows_train += other.rows_train
        self.rows_val += other.rows_val
        self.rows_truncated += other.rows_truncated
        self.rows_with_special_tokens += other.rows_with_special_tokens
        self.rows_with_unknown_characters += other.rows_with_unknown_characters
        self.rows_without_reasoning += other.rows_without_reasoning
        self.rows_chosen_scored_lower += other.rows_chosen_scored_lower
        self.exact_duplicates += other.exact_duplicates
        self.near_duplicates += other.near_duplicates
        self.rows_dropped.update(other.rows_dropped)
        self.images += other.images
        self.formats += other.formats
        self.ignored_columns.update(other.ignored_columns)
        self._add_turn_columns(other.turn_columns)
        self.near_examples += other.near_examples
        self.quarantined += other.quarantined
        self.quarantine_files += other.quarantine_files
        self.lengths = np.concatenate([self.lengths, other.lengths])

    def _add_turn_columns(self, names: Iterable[str]) -> None:
        self.turn_columns = sorted({*self.turn_columns, *names})

    def check_balance(self, train: SampleView, val: SampleView) -> None:
        """Describe the splits, and check that the counts balance."""
        dropped = self.rows_dropped.total()
        kept = self.rows_train + self.rows_val
        assert self.rows_read == kept + dropped, (
            f"{self.rows_read} rows read, {kept} kept, {dropped} dropped"
        )
        self.splits = {"train": split_stats(train), "val": split_stats(val)}

    def length_summary(self) -> str:
        """Format the lengths: ``p50 = 62, p95 = 120, max = 312``."""
        if not len(self.lengths):
            return "no rows"
        p50, p95 = np.percentile(self.lengths, [50, 95])
        return f"p50 = {p50:.0f}, p95 = {p95:.0f}, max = {self.lengths.max()}"

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``data_report.json``."""
        return {
            "rows_available": self.rows_available,
            "rows_read": self.rows_read,
            "rows_train": self.rows_train,
            "rows_val": self.rows_val,
            "rows_dropped": dict(self.rows_dropped),
            "rows_truncated": self.rows_truncated,
            "rows_with_special_tokens": self.rows_with_special_tokens,
            "rows_with_unknown_characters": self.rows_with_unknown_characters,
            "rows_without_reasoning": self.rows_without_reasoning,
            "rows_chosen_scored_lower": self.rows_chosen_scored_lower,
            "images": dict(self.images),
            "formats": self.formats,
            "ignored_columns": dict(self.ignored_columns.most_common()),
            "turn_columns": self.turn_columns,
            "exact_duplicates": self.exact_duplicates,
            "near_duplicates": self.near_duplicates,
            "near_duplicate_examples": [
                {"row": later, "repeats": earlier, "jaccard": round(jaccard, 3)}
                for earlier, later, jaccard in self.near_examples
            ],
            "quarantined": self.quarantined,
            "splits": self.splits,
        }


def split_stats(samples: SampleView) -> dict[str, Any]:
    """Return samples, tokens and target tokens of a split, and both lengths per sample, in tokens."""
    lengths, targets = samples.lengths.astype(np.int64), samples.targets.astype(np.int64)
    tokens, target_tokens = int(lengths.sum()), int(targets.sum())
    return {
        "samples": len(samples),
        "tokens": tokens,
        "target_tokens": target_tokens,
        "target_share": round(target_tokens / tokens, 4) if tokens else 0.0,
        "length": _distribution(lengths),
        "target_length": _distribution(targets),
    }


def _distribution(values: npt.NDArray[np.int64]) -> dict[str, Any]:
    present = values if len(values) else np.zeros(1, np.int64)
    p50, p95 = np.percentile(present, [50, 95])
    return {
        "p50": round(float(p50)),
        "p95": round(float(p95)),
        "max": int(present.max()),
        "histogram": [asdict(bar) for bar in histogram(values)],
    }
