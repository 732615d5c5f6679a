"""What every dataset config shares: sources, preparation, the validation split."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Interval

from xft.data.config.auto_format import choose_format, is_auto
from xft.data.encoding.encoded import EncodingOptions
from xft.data.encoding.row_encoder import RowEncoder
from xft.data.formats import auto
from xft.data.formats.detect import bound_format, format_override
from xft.data.prepare import PrepareSpec, prepare
from xft.data.report import DataReport
from xft.data.sources import resolve_source
from xft.data.splits import check_split_leakage, first_occurrences, split
from xft.data.store.cache import default_root
from xft.data.store.sample_view import SampleView
from xft.data.store.token_store import I64, TokenStore
from xft.errors import ConfigError, DataError
from xft.templates import BoundTemplate, ChatTemplate
from xft.types import ImageProcessor, Tokenizer
from xft.types.ranges import CountOrZero, Probability, Seed

ValSplit = CountOrZero | Probability | str | None
AUTO: Literal["auto"] = "auto"
"""Value of ``val_split`` that adapts to few rows."""
RowSelection = tuple[TokenStore, I64]
"""A store, and indices of some of its rows."""


@dataclass
class PreparedData:
    """Encoded data of a run.

    Attributes:
        train: samples to train on.
        val: held-out samples; may be empty.
        report: counts of rows and tokens.
        samples_per_example: neighboring samples that form one example: 2 for preference pairs, else 1.
    """

    train: SampleView
    val: SampleView
    report: DataReport
    samples_per_example: int = 1


@dataclass
class DatasetConfig:
    """Config of a dataset with rows of one kind.

    Args:
        path: a file, a folder, a glob, ``xft://NAME``, a hub dataset ``owner/name``, or a list of
            these. The suffix ``#500`` selects 500 rows, by ``split_seed``.
        format: function from a row to the value that this kind encodes; ``auto`` chooses it by the columns and turns of
            the first rows.
        max_length: maximum number of tokens of a sample.
        packing: put whole samples next to each other into rows of ``max_length`` tokens. Attention
            stays within a sample, and no sample is split. ``auto`` packs if the model keeps packed samples apart,
            which is measured; ``True`` refuses a model that does not.
        val_split: validation rows: a fraction, a number of rows, a file, ``None``, or ``auto``: 5 %, at least ten
            rows, at most a fifth of few rows.
        split: split of a hub dataset; files have none.
        split_seed: seed of the validation split, independent of the training seed.
        group_by: column; rows with the same value stay in the same split.
        on_duplicate: ``keep`` or ``drop`` rows whose tokens equal those of an earlier row.
        on_invalid: stop with an ``error`` at a row that does not fit, or ``quarantine`` it.
        template: chat template of these rows, if it differs from that of the run.
        streaming: stream a hub dataset instead of downloading it first.
        num_workers: preparation processes; default: one per core.
        cache_dir: folder of prepared data; default: ``data`` in the cache folder of xft.
    """

    path: str | list[str]
    format: Callable[..., Any] = auto
    max_length: Annotated[int, Interval(ge=8, le=10**9)] = 2048
    packing: bool | Literal["auto"] = "auto"
    val_split: ValSplit = AUTO
    split: str = "train"
    split_seed: Seed = 0
    group_by: str | None = None
    on_duplicate: Literal["keep", "drop"] = "keep"
    on_invalid: Literal["error", "quarantine"] = "error"
    template: ChatTemplate | None = None
    streaming: bool = False
    num_workers: Annotated[int, Interval(ge=1, le=1024)] | None = None
    cache_dir: str | None = None

    encoder: ClassVar[type[RowEncoder[Any]]]
    uses_template: ClassVar[bool] = True
    samples_per_example: ClassVar[int] = 1
    sample_kind: ClassVar[str] = "samples"
    row_kind: ClassVar[str]

    def __post_init__(self) -> None:
        if self.max_length < 8:
            raise ConfigError(key="data.max_length", got=self.max_length, expected="at least 8 tokens")
        if isinstance(self.val_split, (int, float)) and not (
            0 <= self.val_split < (1 if isinstance(self.val_split, float) else math.inf)
        ):
            raise ConfigError(
                key="data.val_split",
                got=self.val_split,
                expected="a fraction below 1, a number of rows, a file, 'auto', or None",
            )
        if self.num_workers is not None and self.num_workers < 1:
            raise ConfigError(key="data.num_workers", got=self.num_workers, expected="at least 1")
        self.paths = [self.path] if isinstance(self.path, str) else list(self.path)
        if not self.paths or not all(path.partition("#")[0] for path in self.paths):
            raise ConfigError(key="data.path", got=self.path, expected="at least one file")

    @property
    def pack_length(self) -> int:
        """Tokens of a packed row, enough for the longest example."""
        return self.max_length * self.samples_per_example

    @property
    def system_text(self) -> str:
        """System text of conversations without one; empty for none."""
        return ""

    def check_sources(self) -> None:
        """Check that every source exists, before anything slow.

        Raises:
            ConfigError: a source does not exist, or a split of a file is asked for.
        """
        for path in self.val_paths:
            resolve_source(path)
        for path in self.paths:
            if resolve_source(path).hub is None and self.split != "train":
                raise ConfigError(
                    key="data.split",
                    got=self.split,
                    expected=f"'train' for files such as {path}: only hub datasets have splits",
                    fix="'#500' after the path selects rows, data.val_split selects validation rows",
                )

    @property
    def val_paths(self) -> list[str]:
        """Sources of validation rows; empty if they are selected from ``path``."""
        return [self.val_split] if isinstance(self.val_split, str) and self.val_split != AUTO else []

    def encoding_options(self) -> EncodingOptions:
        """Options of the row encoder."""
        return EncodingOptions(
            self.format, self.max_length, on_invalid=self.on_invalid, group_by=self.group_by
        )

    def prepare(
        self,
        tokenizer: Tokenizer,
        template: BoundTemplate | None,
        processor: ImageProcessor | None = None,
    ) -> PreparedData:
        """Read, map, encode and split the rows, or load them from the cache.

        Args:
            tokenizer: of the model.
            template: chat template of the run; ``None`` for raw text.
            processor: image processor of the model; ``None`` for a text model.

        Raises:
            DataError: a row does not fit (unless quarantined), or too many rows are dropped.
        """
        if self.template is not None:
            template = self.template.bind(tokenizer)
        self.check_sources()
        report = DataReport()
        if is_auto(self.format):
            report.formats.append(self.choose_format())
        encoder = self.encoder(self.encoding_options(), tokenizer, template, processor)
        train = self._read(self.paths, encoder, report)
        val = self._read(self.val_paths, encoder, report) if self.val_paths else []
        self.check_dropped_rows(report, train)
        if self.val_paths and not any(len(rows) for _, rows in val):
            raise DataError(
                f"{self.val_split}: no validation row is left; data.val_split=None trains without validation",
                key="data.val_split",
                got=self.val_split,
            )
        if self.val_split == AUTO or (isinstance(self.val_split, (int, float)) and self.val_split):
            train, val = self._split_validation(train)
        prepared = PreparedData(SampleView(train), SampleView(val), report, self.samples_per_example)
        report.rows_train = sum(len(rows) for _, rows in train)
        report.rows_val = sum(len(rows) for _, rows in val)
        check_split_leakage(prepared.train, prepared.val)
        report.check_balance(prepared.train, prepared.val)
        return prepared

    def choose_format(self) -> str:
        """Replace the format ``auto`` by the one that fits most of the first rows, and return its override.

        Raises:
            DataError: none fits, or several; or a row does not fit, unless it is quarantined.
        """
        sources = [resolve_source(path) for path in (*self.paths, *self.val_paths)]
        spec = choose_format(sources, self.row_kind, self.split, self.streaming, self.on_invalid)
        self.format = bound_format(spec)
        return format_override(spec)

    def _read(
        self, paths: Sequence[str], encoder: RowEncoder[Any], report: DataReport
    ) -> list[RowSelection]:
        """Prepare some sources; drop exact duplicates if the config says so."""
        root = default_root() if self.cache_dir is None else Path(self.cache_dir).expanduser()
        stores: list[TokenStore] = []
        for path in paths:
            spec = PrepareSpec(
                resolve_source(path), self.split, self.streaming, self.split_seed, self.num_workers, root
            )
            stores.append(prepare(spec, encoder))
            report.add_source(stores[-1])
        everything = [(store, np.arange(len(store.rows))) for store in stores]
        digests = np.concatenate([store.rows["tokens"] for store in stores])
        first = first_occurrences(digests)
        repeated = len(digests) - len(first)
        report.exact_duplicates += repeated
        if self.on_duplicate == "keep" or not repeated:
            return everything
        report.rows_dropped["exact duplicate"] += repeated
        return _select(everything, first)

    def _split_validation(
        self, selections: list[RowSelection]
    ) -> tuple[list[RowSelection], list[RowSelection]]:
        rows = np.concatenate([store.rows[rows] for store, rows in selections])
        val = self.val_split if isinstance(self.val_split, (int, float)) else AUTO
        try:
            train, held_out = split(rows, val, self.split_seed)
        except DataError as error:
            raise DataError(f"{', '.join(self.paths)}: {error}", key=error.key, got=error.got) from error
        return _select(selections, train), _select(selections, held_out)

    def check_dropped_rows(self, report: DataReport, train: Sequence[RowSelection]) -> None:
        """Check that rows are left.

        Raises:
            DataError: no row is left.
        """
        if not any(len(rows) for _, rows in train):
            reasons = ", ".join(f"{count} {reason}" for reason, count in report.rows_dropped.items())
            raise DataError(
                f"{', '.join(self.paths)}: no row is left of {report.rows_read} ({reasons})",
                key="data.path",
                got=self.path,
            )


def _select(selections: Sequence[RowSelection], chosen: I64) -> list[RowSelection]:
    """Select rows by their indices in the concatenation of the selections."""
    out: list[RowSelection] = []
    begin = 0
    for store, rows in selections:
        inside = chosen[(chosen >= begin) & (chosen < begin + len(rows))] - begin
        out.append((store, rows[inside]))
        begin += len(rows)
    return out
