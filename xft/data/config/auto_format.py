"""Sample the rows of a dataset, choose its format by them, and find those that do not fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from xft.data.formats.auto import auto
from xft.data.formats.detect import bound_format, detect_format, format_override
from xft.data.formats.detect_rules import Spec
from xft.data.formats.tracked_row import ColumnUsage
from xft.data.formats.trial import misfit_error, try_format
from xft.data.formats.turns_as_text import find_turn_columns, mark_turn_columns
from xft.data.sources import DataSource, RecordReader, RowLocation, parse
from xft.data.sources.location import num_bytes
from xft.errors import DataError
from xft.types import Row

MAX_ROWS = 1000
"""Rows of a source that decide: the first ones of each file."""
MAX_FILES = 20
"""Files of a source that are read, spread over all."""
MAX_BYTES = 64 << 20
"""Bytes of the rows, after which no more are read."""
OnInvalid = Literal["error", "quarantine"]


def is_auto(format: object) -> bool:
    """Return whether a format is to be chosen."""
    return (format.func if isinstance(format, partial) else format) is auto


def choose_format(
    sources: Sequence[DataSource],
    kind: str,
    split: str = "train",
    streaming: bool = False,
    on_invalid: OnInvalid = "error",
    usage: ColumnUsage | None = None,
) -> Spec:
    """Return the format of all sources of a dataset: the one that fits most of their first rows.

    Args:
        sources: of training and validation rows.
        kind: ``data.type``.
        split: split of a hub dataset.
        streaming: stream a hub dataset.
        on_invalid: as in a dataset config.
        usage: gets the columns that are read.

    Raises:
        DataError: no format fits a source, or several, or two sources have different formats; or a row does not fit, and
            ``on_invalid`` is ``error``.
    """
    samples = [sample_rows(source, split, streaming) for source in sources]
    specs = [
        detect_format(sample.rows, kind, source.name, sample.places)
        for source, sample in zip(sources, samples, strict=True)
    ]
    names = {format_override(spec): source.name for spec, source in zip(specs, sources, strict=True)}
    spec = specs[0] if len(names) == 1 else _common_format(specs, samples, kind)
    if spec is None:
        raise DataError(
            key="data.format",
            got=", ".join(f"{name} with {override}" for override, name in names.items()),
            expected="one format for all paths",
            fix="name it, or make a dataset of each (data.type='mixture')",
        )
    for source, sample in zip(sources, samples, strict=True):
        check_fit(source, sample, kind, bound_format(spec), format_override(spec), on_invalid, usage)
    return spec


def _common_format(specs: Sequence[Spec], samples: Sequence["RowSample"], kind: str) -> Spec | None:
    """Return the format of all samples together, if it reads as many rows of each as the format of the sample."""
    rows = [row for sample in samples for row in sample.rows]
    try:
        spec = detect_format(rows, kind, "data.path")
    except DataError:  # they have no format in common
        return None
    for separate, sample in zip(specs, samples, strict=True):
        together, alone = (
            try_format(bound_format(one), sample.rows, kind).misfits for one in (spec, separate)
        )
        if len(together) > len(alone):
            return None
    return spec


@dataclass(frozen=True)
class RowSample:
    """Some rows of a source, and their places."""

    places: list[RowLocation]
    rows: list[Row]


def sample_rows(source: DataSource, split: str = "train", streaming: bool = False) -> RowSample:
    """Return the first rows of files of a source that can be read.

    Raises:
        DataError: there is no row, or none can be read.
    """
    errors: list[DataError] = []
    sample = RowSample([], [])
    size = 0
    for place, row in _rows(source, split, streaming, errors):
        sample.places.append(place)
        sample.rows.append(row)
        size += num_bytes(row)
        if size > MAX_BYTES:
            break
    if not sample.rows:
        raise (
            errors[0]
            if errors
            else DataError(
                f"{source.name}: no rows; expected at least 2, one to train on and one to validate on",
                key="data.path",
                got=source.name,
            )
        )
    return sample


def check_fit(
    source: DataSource,
    sample: RowSample,
    kind: str,
    format: Callable[[Row], object],
    override: str,
    on_invalid: OnInvalid,
    usage: ColumnUsage | None = None,
) -> None:
    """Check that a format reads the sample of a source.

    Args:
        source: the source.
        sample: rows of it.
        kind: ``data.type``.
        format: the format, with its arguments bound.
        override: override of a config that sets the format.
        on_invalid: as in a dataset config.
        usage: gets the columns that are read.

    Raises:
        DataError: rows do not fit, and ``on_invalid`` is ``error``. The message names them.
    """
    trial = try_format(format, sample.rows, kind)
    if usage is not None:
        usage.merge(trial.usage)
    # Of a part of the rows (#500), the sample may have others.
    if trial.misfits and on_invalid == "error" and source.rows is None:
        raise misfit_error(trial, sample.places, override)


def _rows(
    source: DataSource, split: str, streaming: bool, errors: list[DataError]
) -> Iterator[tuple[RowLocation, Row]]:
    step = -(-len(source.files) // MAX_FILES)
    parts = [_part(source, file) for file in source.files[:: step or 1]] or [source]
    for part in parts:
        columns = find_turn_columns(part, split, streaming)
        records = mark_turn_columns(RecordReader(part, split, streaming=streaming), part, columns)
        for location, raw in islice(records, MAX_ROWS // len(parts)):
            try:
                yield location, parse(location, raw)
            except DataError as error:
                errors.append(error)


def _part(source: DataSource, file: Path) -> DataSource:
    return DataSource(source.name, (file,))
