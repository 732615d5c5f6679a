"""Compressed files."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.records import (
    read_rows,
    read_until_error,
    row_numbers,
    write_csv,
    write_file,
)

from xft.data.sources.decompress import BOM, Progress, Stream, blank
from xft.types import Row

ROWS: list[Row] = [
    {"instruction": "Translate.", "output": "中文 é 👩‍👩‍👧"},
    {"instruction": "Two\nlines", "output": 'with "quotes", commas'},
    {"instruction": "", "output": " spaces "},
]


def compress(data: bytes, suffix: str) -> bytes:
    """Compress in two members, as in ``cat a.gz b.gz``."""
    half = len(data) // 2
    if suffix == ".gz":
        return gzip.compress(data[:half]) + gzip.compress(data[half:])
    return b"".join(pa.compress(part, "zstd", asbytes=True) for part in (data[:half], data[half:]))


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".GZ"])
@pytest.mark.parametrize("kind", ["json", "jsonl", "ndjson", "csv", "tsv", "txt"])
def test_compressed_file_gives_the_rows_of_the_file(tmp_path: Path, kind: str, suffix: str) -> None:
    if kind in ("csv", "tsv"):
        plain = Path(write_csv(tmp_path, ROWS, f"a.{kind}", delimiter="," if kind == "csv" else "\t"))
    else:
        text = json.dumps(ROWS) if kind == "json" else "\n".join(map(json.dumps, ROWS))
        plain = Path(write_file(tmp_path, f"a.{kind}", text))
    packed = tmp_path / f"a.{kind}{suffix}"
    packed.write_bytes(compress(plain.read_bytes(), suffix.lower()))
    assert len(read_rows(str(plain))) == 3
    assert read_rows(str(packed)) == read_rows(str(plain))
    assert row_numbers(str(packed)) == row_numbers(str(plain))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_compressed_file_cut_off_raises_after_the_rows_before(tmp_path: Path, name: str) -> None:
    rows = b"".join(b'{"n": %d, "t": "%s"}\n' % (n, os.urandom(50).hex().encode()) for n in range(20_000))
    whole = gzip.compress(rows) if name.endswith("gz") else pa.compress(rows, "zstd", asbytes=True)
    path = write_file(tmp_path, name, whole[: len(whole) // 2])
    count, message = read_until_error(path)
    assert 5_000 < count < 10_001
    assert message.startswith(f"{path}:{count}: nothing can be read behind it (")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_file_that_is_not_compressed_raises(tmp_path: Path, name: str) -> None:
    path = write_file(tmp_path, name, '{"a": 1}\n')
    assert read_until_error(path)[1].startswith(f"{path}: cannot be read (")


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_stream_position_counts_bytes_of_the_disk_and_stays_after_closing(
    tmp_path: Path, suffix: str
) -> None:
    content = os.urandom(2_000_000).hex().encode() + b"\n"
    file = tmp_path / f"a.jsonl{suffix}"
    file.write_bytes(compress(content, suffix) if suffix else content)
    progress = Progress()
    assert progress.position() == 0
    with Stream(file, progress) as stream:
        assert stream.reader.read(1_000_000) == content[:1_000_000]
        assert 0 < progress.position() < file.stat().st_size
        assert stream.reader.read() == content[1_000_000:]
    assert progress.position() == file.stat().st_size


@pytest.mark.parametrize("mark", [b"", BOM])
def test_stream_lines_drop_the_byte_order_mark_of_the_first_line_only(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(mark + b"a\n" + BOM + b"b")
    with Stream(tmp_path / "a.txt", Progress()) as stream:
        assert list(stream.lines()) == [b"a\n", BOM + b"b"]


@pytest.mark.parametrize(
    ("line", "expected"), [(b"", True), (b" \t\r\n", True), (b"a\n", False), (b"\0\n", False)]
)
def test_blank_is_white_space_only(line: bytes, expected: bool) -> None:
    assert blank(line) is expected
