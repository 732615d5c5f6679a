"""Sources: every kind of file against rows written by hand."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.records import (
    read_rows,
    write_file,
)

from xft.data.sources import DataSource, RecordReader, fingerprint, resolve_source
from xft.errors import DataError
from xft.types import Row

# What is read


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '[{"a": "x"}]', [{"a": "x"}]),
        ("a.jsonl", '{"a": "x"}\n', [{"a": "x"}]),
        ("a.csv", "a\nx\n", [{"a": "x"}]),
        ("a.txt", "x\n", [{"text": "x"}]),
    ],
)
def test_byte_order_mark_is_not_part_of_the_first_row(
    tmp_path: Path, name: str, text: str, expected: list[Row]
) -> None:
    assert read_rows(write_file(tmp_path, name, text, encoding="utf-8-sig")) == expected


def test_suffix_in_capitals_is_accepted(tmp_path: Path) -> None:
    assert read_rows(write_file(tmp_path, "A.JSONL", '{"a": "x"}')) == [{"a": "x"}]


@pytest.mark.parametrize(
    ("name", "count"),
    [("alpaca_en_demo.json", 999), ("glaive_toolcall_en_demo.json", 300), ("c4_demo.jsonl", 300)],
)
def test_real_files_give_every_row(shared: Path, name: str, count: int) -> None:
    assert len(read_rows(str(shared / "data" / name))) == count


@pytest.mark.parametrize(
    "name", ["a.json", "a.jsonl", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz", "a.json.zst"]
)
@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "\ufeff\r\n\r\n"])
def test_empty_file_has_no_records(tmp_path: Path, name: str, text: str) -> None:
    path = write_file(tmp_path, name, gzip.compress(text.encode()) if name.endswith("gz") else text)
    if name.endswith("zst"):
        path = write_file(tmp_path, name, pa.compress(text.encode(), "zstd", asbytes=True))
    reader = RecordReader(resolve_source(path))
    assert list(reader) == []
    assert reader.available == 0


@pytest.mark.parametrize(
    "kind", ["json", "jsonl", "csv", "txt", "jsonl.gz", "jsonl.zst", "parquet", "arrow"]
)
def test_file_deleted_after_it_was_resolved_raises(tmp_path: Path, kind: str) -> None:
    path = write_file(tmp_path, f"a.{kind}", "")
    source = resolve_source(path)
    Path(path).unlink()
    for action in (
        lambda: list(RecordReader(source)),
        lambda: source.size,
        lambda: fingerprint(source, "train"),
    ):
        with pytest.raises(DataError) as caught:
            action()
        assert path in str(caught.value)
        assert "No such file or directory" in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root can read every file")
def test_unreadable_file_raises(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.jsonl", '{"a": 1}')
    Path(path).chmod(0)
    with pytest.raises(DataError) as caught:
        list(RecordReader(DataSource(path, (Path(path),))))
    assert path in str(caught.value)
    assert "Permission denied" in str(caught.value)
