"""Sources, their size: memory stays flat, and the progress that is shown is true."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from xft.data.sources import RecordReader, parse, resolve_source

MIB = 1 << 20


def packed(data: bytes, suffix: str) -> bytes:
    if suffix == ".gz":
        return gzip.compress(data, compresslevel=1)
    return pa.compress(data, "zstd", asbytes=True) if suffix == ".zst" else data


# Memory


def pieces(kind: str, size: int) -> Iterator[bytes]:
    """A file of about ``size`` bytes, row by row."""
    row = json.dumps({"text": "é and more " * 90, "number": 7}, ensure_ascii=False).encode()
    count = size // len(row)
    if kind == "json":
        yield b"[" + row
        yield from (b",\n" + row for _ in range(count))
        yield b"]"
    elif kind == "csv":
        yield b"text,number\n"
        yield from (b'"' + b"more, " * 170 + b'",7\n' for _ in range(count))
    elif kind == "txt":
        yield from (b"words and words " * 64 + (b"\n\n" if n % 3 else b"\n") for n in range(count))
    else:
        yield from (row + b"\n" for _ in range(count))


def peak_of_reading(path: str) -> tuple[int, int]:
    """Rows, and the most memory in bytes that Python held while it read them."""
    list(RecordReader(resolve_source(path)))  # what is imported on the way is not counted
    tracemalloc.start()
    try:
        count = sum(1 for location, raw in RecordReader(resolve_source(path)) if parse(location, raw))
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.jsonl.gz", "a.json.zst"])
def test_memory_is_flat_whatever_the_size(tmp_path: Path, name: str) -> None:
    kind = name.split(".")[1]
    (tmp_path / name).write_bytes(packed(b"".join(pieces(kind, 20 * MIB)), Path(name).suffix))
    count, peak = peak_of_reading(str(tmp_path / name))
    assert count > 10_000
    assert peak < 8 * MIB


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_memory_is_flat_for_tables_too(tmp_path: Path, kind: str) -> None:
    """In one row group and one batch: it is the reader that keeps the pieces small."""
    table = pa.table({"text": [f"{n} " + "more " * 200 for n in range(20_000)]})
    file = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write_table(table, file, use_dictionary=False)
    else:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    count, peak = peak_of_reading(str(file))
    assert count == 20_000
    assert peak < 8 * MIB
    held = [
        pa.total_allocated_bytes()
        for number, _ in enumerate(RecordReader(resolve_source(str(file))))
        if number % 999 == 0
    ]
    assert max(held) - held[0] < 8 * MIB


def test_choosing_rows_keeps_no_more_than_these(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(pieces("jsonl", 20 * MIB)))
    count, peak = peak_of_reading(f"{tmp_path / 'a.jsonl'}#500")
    assert count == 500
    assert peak < 8 * MIB


# How far


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.txt", "a.jsonl.gz", "a.jsonl.zst"])
def test_bytes_read_grow_up_to_the_size(tmp_path: Path, name: str) -> None:
    text = "\n".join(json.dumps({"n": n, "t": hex(n**9)}) for n in range(100_000))
    data = f"[{text.replace(chr(10), ',')}]" if name == "a.json" else text
    if name == "a.csv":
        data = "a\n" + "\n".join(map(str, range(300_000)))
    raw = data.encode()
    (tmp_path / name).write_bytes(packed(raw, Path(name).suffix))
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n')
    source = resolve_source(str(tmp_path))
    assert source.size == sum(each.stat().st_size for each in tmp_path.iterdir())
    reader = RecordReader(source)
    assert (reader.available, reader.bytes_read) == (0, 0)
    seen = []
    for count, _ in enumerate(reader, 1):
        assert reader.available == count
        if count % 1000 == 0:
            seen.append(reader.bytes_read)
    assert seen == sorted(seen)
    assert len(set(seen)) > 3, "it moves while reading"
    assert reader.bytes_read == source.size


def test_bytes_read_of_parquet_follow_its_rows(tmp_path: Path) -> None:
    table = pa.table({"text": [f"row {n}" for n in range(1000)]})
    parquet.write_table(table, tmp_path / "a.parquet")
    reader = RecordReader(resolve_source(str(tmp_path / "a.parquet")))
    size = (tmp_path / "a.parquet").stat().st_size
    shares = [reader.bytes_read / size for _ in reader]
    assert shares[0] == pytest.approx(0.256, abs=0.01), "the first batch has 256 of 1,000 rows"
    assert shares[-1] == pytest.approx(1, abs=0.01)
    assert reader.bytes_read == size
