"""Damaged Arrow and Parquet files: an error with the file, and no crash of the process."""

import random
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from xft.data.sources import RecordReader, parse, resolve_source
from xft.errors import DataError

ROWS = [
    {"instruction": f"question {number}", "turns": [{"role": "user", "content": "x" * number}]}
    for number in range(40)
]


def read(file: Path) -> list[object]:
    rows: list[object] = []
    try:
        for location, raw in RecordReader(resolve_source(str(file))):
            rows.append(parse(location, raw))
    except DataError as error:
        rows.append(error)
    return rows


def check(rows: list[object], file: Path) -> None:
    """Check that an error names the file, in one short line."""
    for error in rows:
        if isinstance(error, DataError):
            assert error.key.startswith(str(file))
            assert "\n" not in str(error)
            assert len(str(error)) < 1000


def write_stream(file: Path, table: pa.Table) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def write_file(file: Path, table: pa.Table) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("name", "writer"),
    [
        ("a.arrow", write_file),
        ("stream.arrow", write_stream),
        ("a.parquet", lambda file, table: parquet.write_table(table, file)),
    ],
)
def test_damaged_table_is_read_or_refused(tmp_path: Path, name: str, writer: object) -> None:
    file = tmp_path / name
    writer(file, pa.Table.from_pylist(ROWS))  # type: ignore[operator]
    assert read(file) == ROWS
    good = file.read_bytes()
    generator = random.Random(0)
    for _ in range(60):
        damaged = bytearray(good)
        for _ in range(generator.randint(1, 8)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        file.write_bytes(damaged[: generator.choice([len(damaged), generator.randrange(len(damaged))])])
        check(read(file), file)


def test_offsets_beyond_the_data_are_refused(tmp_path: Path) -> None:
    offsets = pa.py_buffer(b"".join(value.to_bytes(4, "little") for value in (0, 1 << 30, 3)))
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"abc")])
    write_file(file := tmp_path / "a.arrow", pa.Table.from_arrays([text], ["text"]))
    [error] = read(file)
    assert isinstance(error, DataError)
    assert error.key == f"{file}, row 1"


def test_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"text": "x" * 1000} for _ in range(20_000)])
    with (
        pa.OSFile(str(file := tmp_path / "a.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=1000)
    records = iter(RecordReader(resolve_source(str(file))))
    next(records)
    with file.open("r+b") as opened:
        opened.truncate(1000)
    with pytest.raises(DataError) as caught:
        list(records)
    assert caught.value.key.startswith(str(file))


def test_file_of_another_type_is_named(tmp_path: Path) -> None:
    (file := tmp_path / "a.parquet").write_text("{}")
    [error] = read(file)
    assert isinstance(error, DataError)
    assert "is not a parquet file" in str(error)
