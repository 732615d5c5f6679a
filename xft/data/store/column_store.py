"""Columns of the rows of a token store, for rewards: ``columns.bin`` has the JSON of each row, one after another."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xft.types import Row

_DATA, _LENGTHS = "columns.bin", "column_lengths.npy"


def to_json(row: Row) -> bytes:
    """Return a row as JSON; other values than those of JSON become text."""
    return json.dumps(dict(row), ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


class ColumnStoreWriter:
    """Write the columns of a store into its folder, chunk by chunk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lengths: list[int] = []

    def append(self, columns: Sequence[bytes]) -> None:
        """Add the results of :func:`to_json`."""
        if columns:
            self._lengths += map(len, columns)
            with (self._folder / _DATA).open("ab") as file:
                file.write(b"".join(columns))

    def close(self) -> None:
        """Write the lengths, if there are any."""
        if self._lengths:
            np.save(self._folder / _LENGTHS, np.array(self._lengths, dtype=np.int64))


class ColumnStore:
    """Read the columns of a store.

    Args:
        folder: folder of the store.
        num_rows: number of rows.

    Raises:
        ValueError: the files are inconsistent.
        OSError: a file cannot be read.
    """

    def __init__(self, folder: Path, num_rows: int) -> None:
        self._file = folder / _DATA
        path = folder / _LENGTHS
        lengths = np.load(path) if path.exists() else np.empty(0, np.int64)
        self._begins = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        if len(lengths) not in (0, num_rows) or (
            len(lengths) and self._file.stat().st_size != self._begins[-1]
        ):
            raise ValueError(f"columns of {len(lengths)} rows for {num_rows}")

    def of_row(self, row: int) -> Row:
        """Return the columns of a row."""
        begin, end = self._begins[row : row + 2]
        with self._file.open("rb") as file:
            file.seek(begin)
            values: Row = json.loads(file.read(end - begin).decode("utf-8", "surrogatepass"))
        return values
