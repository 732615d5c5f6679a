"""Columns of rows on disk."""

from datetime import date
from pathlib import Path

import pytest

from xft.data.store.column_store import ColumnStore, ColumnStoreWriter, to_json
from xft.types import Row

ROWS: list[Row] = [{"a": 1}, {"text": "ünï\n", "list": [1, None]}, {"when": date(2026, 1, 2)}]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    writer = ColumnStoreWriter(tmp_path)
    writer.append([to_json(row) for row in ROWS[:2]])
    writer.append([])
    writer.append([to_json(ROWS[2])])
    writer.close()
    store = ColumnStore(tmp_path, 3)
    assert [store.of_row(index) for index in range(3)] == [*ROWS[:2], {"when": "2026-01-02"}]


def test_a_store_without_columns_has_no_files(tmp_path: Path) -> None:
    ColumnStoreWriter(tmp_path).close()
    assert list(tmp_path.iterdir()) == []
    ColumnStore(tmp_path, 3)


def test_inconsistent_files_are_refused(tmp_path: Path) -> None:
    writer = ColumnStoreWriter(tmp_path)
    writer.append([to_json(ROWS[0])])
    writer.close()
    with pytest.raises(ValueError, match="columns of 1 rows for 2"):
        ColumnStore(tmp_path, 2)
    (tmp_path / "columns.bin").write_bytes(b"{")
    with pytest.raises(ValueError, match="columns"):
        ColumnStore(tmp_path, 1)
