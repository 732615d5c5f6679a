"""Files that keep tables by column: parquet, and arrow as ``datasets.save_to_disk`` writes it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from xft.data.sources.decompress import Progress
from xft.data.sources.location import (
    MAX_ROW_BYTES,
    Raw,
    Record,
    RowLocation,
    repeated_columns,
    size_problem,
    source_error,
    truncate,
)
from xft.data.sources.parse import InvalidJSON, decode_json, located

Decoder = Callable[[Any], Any]

_BATCH = 256
"""Rows converted to Python objects in one call."""
_BUFFER = 1 << 20
"""Bytes of each column of a parquet file that are held; without it, all of a row group would be."""
_BATCH_BYTES = 64 << 20
"""Bytes that a batch of a parquet file may have."""
_LONGEST_REASON = 200
"""Characters of a message of Arrow that an error quotes."""
_MAGIC = b"ARROW1"
"""An arrow file begins with it; an arrow stream does not (Arrow's format, "IPC File Format")."""


def read_parquet(file: Path, progress: Progress) -> Iterator[Record]:
    """The rows of a parquet file, batch by batch.

    Raises:
        DataError: it is none, or is damaged.
    """
    from pyarrow import ArrowException, parquet

    def batches() -> Iterator[Any]:
        """Yield record batches, each small enough to be converted, and report the position in the file."""
        with parquet.ParquetFile(
            file, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        ) as table:
            _check_names(file, table.schema_arrow)
            size, total, done = file.stat().st_size, table.metadata.num_rows, 0
            groups = map(table.metadata.row_group, range(table.metadata.num_row_groups))
            row_size = sum(group.total_byte_size for group in groups) // max(total, 1)
            for batch in table.iter_batches(max(1, min(_BATCH, _BATCH_BYTES // max(row_size, 1)))):
                done += batch.num_rows
                progress.position = partial(int, size * done / total)
                yield batch

    yield from _rows(file, batches(), "a parquet file", ArrowException)


def read_arrow(file: Path, progress: Progress) -> Iterator[Record]:
    """The rows of an arrow file or an arrow stream, batch by batch.

    Raises:
        DataError: it is none, or is damaged.
    """
    import pyarrow

    def batches() -> Iterator[Any]:
        """Yield slices of the record batches, of at most ``_BATCH`` rows."""
        with file.open("rb") as opened:
            begin = opened.read(len(_MAGIC))
        # A file that is mapped into memory ends the process if it is cut off while it is read.
        with pyarrow.OSFile(str(file)) as source:
            parts: Iterator[Any]
            progress.position = lambda: 0 if source.closed else source.tell()
            if begin == _MAGIC:
                table = pyarrow.ipc.open_file(source)
                _check_names(file, table.schema)
                parts = (table.get_batch(index) for index in range(table.num_record_batches))
            else:
                table = pyarrow.ipc.open_stream(source)
                _check_names(file, table.schema)
                parts = iter(table)
            for part in parts:
                for begun in range(0, part.num_rows, _BATCH):
                    yield part.slice(begun, _BATCH)

    yield from _rows(file, batches(), "an arrow file", pyarrow.ArrowException)


def _check_names(file: Path, schema: Any) -> None:
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise repeated_columns(file, twice)


def _rows(file: Path, batches: Iterator[Any], kind: str, broken: type[Exception]) -> Iterator[Record]:
    number = 0
    while True:
        try:
            batch = next(batches, None)
        except (broken, OSError, ValueError, OverflowError, MemoryError) as error:
            # Arrow raises OSError too for a file that is damaged.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            what = f"is damaged behind row {number}" if number else f"is not {kind}, or is damaged"
            reason = truncate(" ".join(str(error).split()), _LONGEST_REASON)
            raise source_error(file, f"{what} ({reason})", got=reason) from error
        if batch is None:
            return
        for raw in _to_rows(batch, _decoders(batch.schema), broken):
            number += 1
            location = RowLocation(str(file), number, "row")
            yield location, located(location, raw) if isinstance(raw, InvalidJSON) else raw


def _to_rows(batch: Any, decoders: Mapping[str, Decoder], broken: type[Exception]) -> list[Raw]:
    """The rows of a batch; where some cannot be had, the others."""
    try:
        # Offsets that point out of their buffers would end the process when they are followed.
        batch.validate(full=True)
        if batch.nbytes > MAX_ROW_BYTES:
            if batch.num_rows == 1:
                return [InvalidJSON(*size_problem())]
            return _row_by_row(batch, decoders, broken)
        rows = batch.to_pylist()
        for name, decode in decoders.items():
            for row in rows:
                row[name] = decode(row[name])
        return list(rows)
    except (broken, ValueError, OverflowError, InvalidJSON) as error:
        if batch.num_rows > 1:
            return _row_by_row(batch, decoders, broken)
        reason = truncate(" ".join(str(error).split()), _LONGEST_REASON)
        return [InvalidJSON(f"cannot be read ({reason})", fix="write the file again")]


def _row_by_row(batch: Any, decoders: Mapping[str, Decoder], broken: type[Exception]) -> list[Raw]:
    single = (batch.slice(index, 1) for index in range(batch.num_rows))
    return [raw for row in single for raw in _to_rows(row, decoders, broken)]


def _decoders(schema: Any) -> dict[str, Decoder]:
    """Return decoders of columns that hold JSON as text: the type ``arrow.json``, in which ``datasets`` stores objects
    whose fields vary between rows."""
    decoders = {field.name: _decoder(field.type) for field in schema}
    return {name: decode for name, decode in decoders.items() if decode is not None}


def _decoder(kind: Any) -> Decoder | None:
    from pyarrow import JsonType, types

    if isinstance(kind, JsonType):
        return lambda value: None if value is None else decode_json(value)
    if types.is_struct(kind):
        inner = _decoders(kind)
        # Arrow gives every object the fields of all of them: a null in one was most likely never there.
        return lambda value: None if value is None else without_nulls(_replace(value, inner))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = _decoder(kind.value_type)
        return None if item is None else lambda value: None if value is None else [*map(item, value)]
    return None


def _replace(value: dict[str, Any], decoders: Mapping[str, Decoder]) -> dict[str, Any]:
    return value | {name: decode(value[name]) for name, decode in decoders.items()}


def without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    """An object without the fields that are null."""
    return {name: item for name, item in value.items() if item is not None}
