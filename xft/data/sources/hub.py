"""Data sets of the hub, downloaded and cached by ``datasets``, or read as a stream."""

from collections.abc import Iterator
from typing import Any

from xft.data.sources.arrow import without_nulls
from xft.data.sources.location import (
    MAX_ROW_BYTES,
    Record,
    RowLocation,
    abbreviate,
    num_bytes,
    source_error,
    too_large,
)
from xft.errors import DataError
from xft.types import Row


def read_hub(name: str, split: str, streaming: bool) -> Iterator[Record]:
    """The rows of one split.

    Args:
        name: ``owner/name``, or ``owner/name:config``.
        split: of the data set.
        streaming: read from the network row by row, and keep nothing on the disk.

    Raises:
        DataError: there is no such data set, or it cannot be reached.
    """
    for number, row in enumerate(_rows(name, split, streaming), 1):
        location = RowLocation(name, number, "row")
        if num_bytes(row) > MAX_ROW_BYTES:
            yield location, too_large(location)
        else:
            yield location, {column: _unfilled(value) for column, value in row.items()}


def _rows(name: str, split: str, streaming: bool) -> Iterator[Row]:
    """Yield the rows as ``datasets`` reads them, whose errors have many types."""
    import datasets

    number = 0
    try:
        for row in datasets.load_dataset(*_parts(name), split=split, streaming=streaming):
            number += 1
            yield row
    except Exception as error:
        if number:
            where = RowLocation(name, number, "row")
            problem = f"nothing can be read behind it ({_reason(error)})"
            raise source_error(where, problem, fix="check the network") from error
        raise _unreachable(name, error) from error


def _unfilled(value: object) -> Any:
    """A value of a column without the nulls that Arrow fills objects with, as parquet is read."""
    if isinstance(value, dict):
        return without_nulls({name: _unfilled(item) for name, item in value.items()})
    return [_unfilled(item) for item in value] if isinstance(value, list) else value


def revision(name: str) -> str:
    """What tells a state of the data set from another: its commit, as far as ``datasets`` knows it.

    Raises:
        DataError: there is no such data set, or it cannot be reached.
    """
    import datasets

    try:
        builder = datasets.load_dataset_builder(*_parts(name))
    except Exception as error:
        raise _unreachable(name, error) from error
    return f"{builder.config.name}@{builder.hash}"


def _parts(name: str) -> tuple[str, str | None]:
    owner_and_name, _, config = name.partition(":")
    return owner_and_name, config or None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {abbreviate(' '.join(str(error).split()))}"


def _unreachable(name: str, error: Exception) -> DataError:
    problem = f"is no file, and the hub gives no such data set ({_reason(error)})"
    return source_error(name, problem, fix="give a file, or check the name and the network")
