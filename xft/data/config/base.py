"""What every kind of data set shares: its sources, the validation split, the books."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from xft.data.encoding.row_encoder import OVERLONG_REASON, RowEncoder
from xft.data.formats import alpaca
from xft.data.prepare import PrepareSpec, prepare
from xft.data.report import DataReport
from xft.data.sources import locate
from xft.data.splits import first_occurrences, split
from xft.data.store.cache import default_root
from xft.data.store.token_store import I64, SampleView, TokenStore
from xft.errors import ConfigError, DataError
from xft.templates import BoundTemplate, ChatTemplate
from xft.types import Tokenizer

Validation = int | float | str | None
RowSelection = tuple[TokenStore, I64]
"""Some rows of a store."""


@dataclass
class PreparedData:
    """What preparing gives: samples by split, and the books.

    Attributes:
        train: what is trained on.
        val: what is validated on; may be empty.
        ledger: the books.
        samples_per_example: neighboring samples that form one example: 2 for preference pairs, else 1.
    """

    train: SampleView
    val: SampleView
    report: DataReport
    samples_per_example: int = 1


@dataclass
class DatasetConfig(ABC):
    """Rows of one kind, from their sources to their splits.

    Args:
        path: a file, a folder, a glob, ``xft://NAME``, a hub data set ``owner/name``, or a list of
            these; ``#500`` behind one takes 500 of its rows, chosen by ``split_seed``.
        format: the map function, from a row to what this kind learns from.
        max_length: the most tokens that one sample may have.
        packing: put whole samples side by side into rows of ``max_length`` tokens. They never see
            each other, and none is split.
        val_split: what is validated on: a share, a number of rows, a file, or ``None``.
        split: which split of a hub data set to take.
        split_seed: chooses the validation rows, apart from the training's seed.
        group_by: a column; rows with the same value in it stay in the same split.
        on_duplicate: whether rows that become the same tokens as an earlier one are kept.
        on_invalid: a row that does not fit is an ``error``, or is counted and set aside.
        template: the chat template of these rows, where it is another than the config's.
        streaming: read a hub data set as a stream, without downloading all of it first.
        num_workers: processes that prepare; ``None`` takes one a core.
        cache_dir: the folder of prepared data; ``None`` takes ``data`` in xft's cache folder.
    """

    path: str | list[str]
    format: Callable[..., Any] = alpaca
    max_length: int = 2048
    packing: bool = True
    val_split: Validation = 0.05
    split: str = "train"
    split_seed: int = 0
    group_by: str | None = None
    on_duplicate: Literal["keep", "drop"] = "keep"
    on_invalid: Literal["error", "quarantine"] = "error"
    template: ChatTemplate | None = None
    streaming: bool = False
    num_workers: int | None = None
    cache_dir: str | None = None

    uses_template: ClassVar[bool] = True
    samples_per_example: ClassVar[int] = 1
    sample_kind: ClassVar[str] = "samples"

    def __post_init__(self) -> None:
        if self.max_length < 8:
            raise ConfigError(f"data.max_length: got {self.max_length}, expected at least 8 tokens")
        if isinstance(self.val_split, (int, float)) and not (
            0 <= self.val_split < (1 if isinstance(self.val_split, float) else math.inf)
        ):
            raise ConfigError(
                f"data.val_split: got {self.val_split}, expected a share below 1, a number of rows, a file, or None"
            )
        if self.num_workers is not None and self.num_workers < 1:
            raise ConfigError(f"data.num_workers: got {self.num_workers}, expected at least 1")
        self.paths = [self.path] if isinstance(self.path, str) else list(self.path)
        if not self.paths or not all(each.partition("#")[0] for each in self.paths):
            raise ConfigError(f"data.path: got {self.path!r}, expected at least one file")

    @property
    def pack_length(self) -> int:
        """Tokens in a packed row: it holds the longest example."""
        return self.max_length * self.samples_per_example

    def locate(self) -> None:
        """Check that every source exists, before anything slow is done.

        Raises:
            ConfigError: one does not.
        """
        for path in [*self.paths, *([self.val_split] if isinstance(self.val_split, str) else [])]:
            locate(path)

    @abstractmethod
    def task(self, tokenizer: Tokenizer, template: BoundTemplate | None) -> RowEncoder[Any]:
        """What is done to each row."""

    def prepare(self, tokenizer: Tokenizer, template: BoundTemplate | None) -> PreparedData:
        """Read, map, encode and split; or take it from the cache.

        Args:
            tokenizer: of the model that will be trained.
            template: how conversations are rendered; ``None`` for raw text.

        Raises:
            DataError: a row does not fit (unless quarantined), or too much is lost.
        """
        if self.template is not None:
            template = self.template.bind(tokenizer)
        task = self.task(tokenizer, template)
        report = DataReport()
        train = self._read(self.paths, task, report)
        val = self._read([self.val_split], task, report) if isinstance(self.val_split, str) else []
        self.check_dropped_rows(report, train)
        if isinstance(self.val_split, str) and not any(len(rows) for _, rows in val):
            raise DataError(
                f"{self.val_split}: no row is left to validate on; data.val_split=None trains without validation"
            )
        if isinstance(self.val_split, (int, float)) and self.val_split:
            train, val = self._split_validation(train, self.val_split)
        prepared = PreparedData(SampleView(train), SampleView(val), report, self.samples_per_example)
        report.rows_train = sum(len(rows) for _, rows in train)
        report.rows_val = sum(len(rows) for _, rows in val)
        check_split_leakage(prepared)
        report.check_balance(prepared.train, prepared.val)
        return prepared

    def _read(self, paths: Sequence[str], task: RowEncoder[Any], report: DataReport) -> list[RowSelection]:
        """All rows of some sources, without exact duplicates where these are not wanted."""
        root = default_root() if self.cache_dir is None else Path(self.cache_dir).expanduser()
        stores: list[TokenStore] = []
        for path in paths:
            order = PrepareSpec(
                locate(path), self.split, self.streaming, self.split_seed, self.num_workers, root
            )
            stores.append(prepare(order, task))
            report.add_source(stores[-1])
        digests = np.concatenate([each.rows["tokens"] for each in stores])
        first = first_occurrences(digests)
        repeated = len(digests) - len(first)
        report.exact_duplicates += repeated
        if self.on_duplicate == "keep" or not repeated:
            return [(each, np.arange(len(each.rows))) for each in stores]
        report.rows_dropped["exact duplicate"] += repeated
        return _divide(stores, first)

    def _split_validation(
        self, parts: list[RowSelection], val: int | float
    ) -> tuple[list[RowSelection], list[RowSelection]]:
        rows = np.concatenate([store.rows[rows] for store, rows in parts])
        try:
            train, held = split(rows, val, self.split_seed)
        except DataError as error:
            raise DataError(f"{', '.join(self.paths)}: {error}") from error
        return _select(parts, train), _select(parts, held)

    def check_dropped_rows(self, report: DataReport, train: Sequence[RowSelection]) -> None:
        """Refuse to start when too much was lost, and say how much.

        Raises:
            DataError: no row is left.
        """
        if not any(len(rows) for _, rows in train):
            reasons = ", ".join(f"{count} {reason}" for reason, count in report.rows_dropped.items())
            raise DataError(f"{', '.join(self.paths)}: no row is left of {report.rows_read} ({reasons})")


@dataclass
class ChatData(DatasetConfig):
    """What data sets of conversations share: rows may be too long.

    Args:
        max_overlong_fraction: refuse to start when a larger share of the rows is dropped or cut for length.
    """

    max_overlong_fraction: float = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_overlong_fraction <= 1:
            raise ConfigError(
                f"data.max_overlong_fraction: got {self.max_overlong_fraction}, expected a share from 0 to 1"
            )

    def check_dropped_rows(self, report: DataReport, train: Sequence[RowSelection]) -> None:
        """Refuse to start when more than ``max_overlong_fraction`` of the rows are too long."""
        hurt = report.rows_dropped[OVERLONG_REASON] + report.rows_truncated
        if hurt > self.max_overlong_fraction * report.rows_read:
            raise DataError(
                f"data.max_length={self.max_length} hurts {hurt} of {report.rows_read} rows "
                f"({hurt / report.rows_read:.0%}), more than data.max_overlong_fraction={self.max_overlong_fraction:.0%}; lengths in "
                f"tokens: {report.length_summary()}; raise data.max_length, or allow it with data.max_overlong_fraction"
            )
        super().check_dropped_rows(report, train)


def check_split_leakage(prepared: PreparedData) -> None:
    """Refuse rows that stand in both splits, by what they say, by their tokens, or by their group.

    Raises:
        DataError: with the first of them.
    """
    for name in ("tokens", "content", "group"):
        seen = _rows(prepared.train, name)
        held = _rows(prepared.val, name)
        both = np.flatnonzero(np.isin(held, seen))
        if len(both):
            raise DataError(
                f"{prepared.val.origin_of_row(int(both[0]))}: {len(both)} of {len(held)} validation rows are "
                "trained on too, this one first; take them out of one of the two"
            )


def _rows(samples: SampleView, name: str) -> Any:
    return np.concatenate(
        [np.empty(0, np.uint64), *(store.rows[name][rows] for store, rows in samples.parts)]
    )


def _divide(stores: Sequence[TokenStore], rows: I64) -> list[RowSelection]:
    """Rows of several stores, counted through all of them, as parts."""
    return _select([(each, np.arange(len(each.rows))) for each in stores], rows)


def _select(parts: Sequence[RowSelection], chosen: I64) -> list[RowSelection]:
    """Some rows of some parts, counted through all of them."""
    out: list[RowSelection] = []
    begin = 0
    for store, rows in parts:
        inside = chosen[(chosen >= begin) & (chosen < begin + len(rows))] - begin
        out.append((store, rows[inside]))
        begin += len(rows)
    return out
