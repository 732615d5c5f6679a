"""Parquet and arrow files, intact and damaged."""

import random
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.records import (
    read_rows,
    read_until_error,
    row_numbers,
    rows_or_errors,
    write_file,
)
from pyarrow import parquet

from xft.data.sources import RecordReader, parse, resolve_source
from xft.data.sources.arrow import read_parquet, without_nulls
from xft.data.sources.decompress import Progress
from xft.errors import DataError
from xft.types import Row


def test_parquet_gives_the_written_rows(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"text": "é", "turns": [{"from": "human", "value": "Hi"}]},
        {"text": None, "turns": []},
    ]
    file = tmp_path / "a.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), file)
    assert read_rows(str(file)) == rows
    assert [str(location) for location, _ in RecordReader(resolve_source(str(file)))] == [
        f"{file}, row 1",
        f"{file}, row 2",
    ]


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"text": [f"row {n}" for n in range(1000)], "turns": [[{"n": n}] for n in range(1000)]})


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_file_and_stream_give_the_written_rows(tmp_path: Path, table: pa.Table, kind: str) -> None:
    file = tmp_path / "a.arrow"
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)
    assert read_rows(str(file)) == [{"text": f"row {n}", "turns": [{"n": n}]} for n in range(1000)]
    assert row_numbers(str(file)) == list(range(1, 1001))


def test_folder_of_save_to_disk_gives_the_saved_rows(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"text": f"row {n}", "turns": [{"from": "human", "value": str(n)}]} for n in range(100)]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"), num_shards=3)
    assert len(list((tmp_path / "saved").glob("*.arrow"))) == 3
    assert read_rows(str(tmp_path / "saved")) == rows


def test_objects_that_datasets_stores_as_json_are_parsed(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows: list[Row] = [
        {"calls": [{"b": 0}, {"c": "x"}], "whole": {"a": [1, None]}, "in": {"it": {"x": 1}}},
        {"calls": [{"b": {"z": 1}}], "whole": 3, "in": {"it": "text"}},
        {"calls": None, "whole": None, "in": None},
    ]
    json_type = datasets.Json()
    features = datasets.Features(
        {"calls": datasets.List(json_type), "whole": json_type, "in": {"it": json_type}}
    )
    saved = datasets.Dataset.from_list(rows, features=features)
    saved.save_to_disk(str(tmp_path / "saved"))
    saved.to_parquet(str(tmp_path / "a.parquet"))
    assert list(saved) == rows
    assert read_rows(str(tmp_path / "saved")) == rows
    assert read_rows(str(tmp_path / "a.parquet")) == rows


def test_parquet_of_several_row_groups_keeps_the_order(tmp_path: Path, table: pa.Table) -> None:
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=77)
    assert [row["text"] for row in read_rows(str(tmp_path / "a.parquet"))] == [
        f"row {n}" for n in range(1000)
    ]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize(
    "content", [b"", b"not a table at all", b"ARROW1\0\0 and then nothing", b"PAR1PAR1"]
)
def test_file_that_is_not_a_table_raises(tmp_path: Path, kind: str, content: bytes) -> None:
    path = write_file(tmp_path, f"a.{kind}", content)
    count, message = read_until_error(path)
    assert count == 0
    assert message.startswith(f"{path}: is not {'a parquet' if kind == 'parquet' else 'an arrow'} file, ")


def test_text_that_is_not_utf8_is_one_invalid_record(tmp_path: Path) -> None:
    texts = pa.array([b"one", b"caf\xe9", b"three"]).cast(pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    first, error, third = rows_or_errors(path)
    assert (first, third) == ({"text": "one"}, {"text": "three"})
    assert str(error).startswith(f"{path}, row 2: cannot be read (")
    assert "UTF8" in str(error)


def test_duplicate_column_raises(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    assert read_until_error(str(tmp_path / "a.arrow"))[1].endswith(
        "several columns have the name 'a'; expected unique names"
    )


def test_parquet_nulls_in_objects_are_missing_fields(tmp_path: Path) -> None:
    rows = [{"calls": [{"arguments": {"city": "Oslo"}}]}, {"calls": [{"arguments": {"zone": 1}}]}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert read_rows(str(tmp_path / "rows.parquet")) == rows


ROWS = [
    {"instruction": f"question {number}", "turns": [{"role": "user", "content": "x" * number}]}
    for number in range(40)
]


def rows_and_error(file: Path) -> list[object]:
    rows: list[object] = []
    try:
        for location, raw in RecordReader(resolve_source(str(file))):
            rows.append(parse(location, raw))
    except DataError as error:
        rows.append(error)
    return rows


def check_errors(rows: list[object], file: Path) -> None:
    """Check that an error names the file, in one short line."""
    for error in rows:
        if isinstance(error, DataError):
            assert error.key.startswith(str(file))
            assert "\n" not in str(error)
            assert len(str(error)) < 1000


def write_ipc_stream(file: Path, table: pa.Table) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def write_ipc_file(file: Path, table: pa.Table) -> None:
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    ("name", "writer"),
    [
        ("a.arrow", write_ipc_file),
        ("stream.arrow", write_ipc_stream),
        ("a.parquet", lambda file, table: parquet.write_table(table, file)),
    ],
)
def test_damaged_table_is_read_or_refused(tmp_path: Path, name: str, writer: object) -> None:
    file = tmp_path / name
    writer(file, pa.Table.from_pylist(ROWS))  # type: ignore[operator]
    assert rows_and_error(file) == ROWS
    good = file.read_bytes()
    generator = random.Random(0)
    for _ in range(60):
        damaged = bytearray(good)
        for _ in range(generator.randint(1, 8)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        file.write_bytes(damaged[: generator.choice([len(damaged), generator.randrange(len(damaged))])])
        check_errors(rows_and_error(file), file)


def test_offsets_beyond_the_data_are_refused(tmp_path: Path) -> None:
    offsets = pa.py_buffer(b"".join(value.to_bytes(4, "little") for value in (0, 1 << 30, 3)))
    text = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"abc")])
    write_ipc_file(file := tmp_path / "a.arrow", pa.Table.from_arrays([text], ["text"]))
    [error] = rows_and_error(file)
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
    [error] = rows_and_error(file)
    assert isinstance(error, DataError)
    assert "is not a parquet file" in str(error)


def test_arrow_file_cut_off_raises_after_the_rows_before(tmp_path: Path, table: pa.Table) -> None:
    file = tmp_path / "a.arrow"
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    count, message = read_until_error(str(file))
    assert 300 <= count < 1000
    assert message.startswith(f"{file}: ")
    assert str(count) in message


def test_progress_of_parquet_reaches_the_size_of_the_file(tmp_path: Path, table: pa.Table) -> None:
    file = tmp_path / "a.parquet"
    parquet.write_table(table, file, row_group_size=77)
    progress = Progress()
    positions = [progress.position() for _ in read_parquet(file, progress)]
    assert positions == sorted(positions)
    assert len(set(positions)) > 2
    assert positions[-1] == file.stat().st_size


def test_without_nulls_keeps_false_values() -> None:
    assert without_nulls({"a": None, "b": 0, "c": "", "d": [None]}) == {"b": 0, "c": "", "d": [None]}
