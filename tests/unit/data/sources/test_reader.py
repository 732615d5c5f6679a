"""Sources: every kind of file against rows written by hand."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from xft.data.sources import RecordReader, RowLocation, parse, resolve_source
from xft.types import Row

ROWS: list[Row] = [
    {"instruction": "Translate.", "output": "中文 é 👩‍👩‍👧"},
    {"instruction": "Two\nlines", "output": 'with "quotes", commas'},
    {"instruction": "", "output": " spaces "},
]


def write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> str:
    file = folder / name
    file.write_bytes(text.encode(encoding))
    return str(file)


def write_csv(folder: Path, rows: list[Row], name: str = "rows.csv", **options: Any) -> str:
    file = folder / name
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def read(path: str) -> list[Row]:
    return [parse(location, raw) for location, raw in RecordReader(resolve_source(path))]


def places(path: str) -> list[int]:
    return [location.line for location, _ in RecordReader(resolve_source(path))]


# What is read


def test_json_list_gives_its_objects(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.json", json.dumps(ROWS, ensure_ascii=False, indent=1))) == ROWS


def test_jsonl_gives_an_object_a_line_and_skips_blank_lines(tmp_path: Path) -> None:
    lines = [json.dumps(each, ensure_ascii=False) for each in ROWS]
    path = write(tmp_path, "a.jsonl", f"{lines[0]}\n\n{lines[1]}\r\n  \n{lines[2]}")
    assert read(path) == ROWS
    assert places(path) == [1, 3, 5]


def test_jsonl_keeps_line_separators_inside_a_string(tmp_path: Path) -> None:
    row = {"text": "a\u2028b\u2029c\u0085d"}
    written = json.dumps(row, ensure_ascii=False)
    assert "\u2028" in written
    assert read(write(tmp_path, "a.jsonl", f"{written}\n{written}\n")) == [row, row]


def test_csv_gives_what_the_csv_module_wrote(tmp_path: Path) -> None:
    assert read(write_csv(tmp_path, ROWS)) == ROWS


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_csv_ends_a_row_at_line_feeds_only(tmp_path: Path, separator: str) -> None:
    """The csv module writes these characters without quotes: they end no row."""
    rows: list[Row] = [{"a": f"one{separator}two", "b": "x"}, {"a": "three", "b": f"{separator}y"}]
    assert read(write_csv(tmp_path, rows)) == rows


def test_parquet_gives_what_was_written(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"text": "é", "turns": [{"from": "human", "value": "Hi"}]},
        {"text": None, "turns": []},
    ]
    file = tmp_path / "a.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), file)
    assert read(str(file)) == rows
    assert [str(location) for location, _ in RecordReader(resolve_source(str(file)))] == [
        f"{file}, row 1",
        f"{file}, row 2",
    ]


def test_txt_with_blank_lines_is_cut_at_them(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "first\nstill first\n\nsecond\n \t\n\n\nthird\n")
    assert read(path) == [{"text": "first\nstill first"}, {"text": "second"}, {"text": "third"}]
    assert places(path) == [1, 4, 8]


def test_txt_without_blank_lines_is_cut_at_every_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "first\nsecond\n  third\n")
    assert read(path) == [{"text": "first"}, {"text": "second"}, {"text": "  third"}]
    assert places(path) == [1, 2, 3]


def test_txt_with_windows_line_ends_is_cut_alike(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.txt", "first\r\nstill\r\n\r\nsecond\r\n")) == [
        {"text": "first\nstill"},
        {"text": "second"},
    ]


def test_txt_that_begins_with_blank_lines_counts_them(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "\n\nfirst\n\nsecond\n")
    assert read(path) == [{"text": "first"}, {"text": "second"}]
    assert places(path) == [3, 5]


def test_txt_keeps_the_indentation_of_every_document(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.txt", "    if a:\n\n    if b:\n        pass\n")) == [
        {"text": "    if a:"},
        {"text": "    if b:\n        pass"},
    ]


def test_txt_keeps_every_line_of_the_wiki_demo(shared: Path) -> None:
    file = shared / "data" / "wiki_demo.txt"
    expected = [line.strip() for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    got = [line.strip() for row in read(str(file)) for line in row["text"].split("\n") if line.strip()]
    assert got == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '[{"a": "x"}]', [{"a": "x"}]),
        ("a.jsonl", '{"a": "x"}\n', [{"a": "x"}]),
        ("a.csv", "a\nx\n", [{"a": "x"}]),
        ("a.txt", "x\n", [{"text": "x"}]),
    ],
)
def test_byte_order_mark_is_no_part_of_the_first_row(
    tmp_path: Path, name: str, text: str, expected: list[Row]
) -> None:
    assert read(write(tmp_path, name, text, encoding="utf-8-sig")) == expected


def test_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    assert read(write(tmp_path, "A.JSONL", '{"a": "x"}')) == [{"a": "x"}]


@pytest.mark.parametrize(
    ("name", "count"),
    [("alpaca_en_demo.json", 999), ("glaive_toolcall_en_demo.json", 300), ("c4_demo.jsonl", 300)],
)
def test_real_files_give_every_row(shared: Path, name: str, count: int) -> None:
    assert len(read(str(shared / "data" / name))) == count


def test_origin_of_a_line_is_clickable_and_of_a_row_is_said_in_words() -> None:
    assert str(RowLocation("a.jsonl", 7)) == "a.jsonl:7"
    assert str(RowLocation("a.json", 7, "row")) == "a.json, row 7"


def test_csv_row_of_several_lines_has_the_number_of_its_first(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'a,b\r\n"1\r\n2",x\r\n\r\n"3\n4\n5",y\r\n6,z\r\n')
    assert read(path) == [{"a": "1\r\n2", "b": "x"}, {"a": "3\n4\n5", "b": "y"}, {"a": "6", "b": "z"}]
    assert places(path) == [2, 5, 8]


def test_csv_may_end_its_lines_with_carriage_returns_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "a,b\r1,2\r3,4\r")
    assert read(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert places(path) == [2, 3]


def test_csv_may_begin_with_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "\n\na,b\n1,2\n")
    assert (read(path), places(path)) == ([{"a": "1", "b": "2"}], [4])


def test_tsv_is_separated_by_tabs(tmp_path: Path) -> None:
    rows: list[Row] = [{"a": "1,2", "b": "x\ty"}, {"a": 'a "b"', "b": ""}]
    assert read(write_csv(tmp_path, rows, "a.tsv", dialect="excel-tab")) == rows


def test_csv_takes_a_field_of_any_length(tmp_path: Path) -> None:
    """The csv module stops at 131,072 characters unless told otherwise: a document may be longer."""
    rows: list[Row] = [{"text": "x" * 200_000}, {"text": "y"}]
    assert read(write_csv(tmp_path, rows)) == rows


def test_ndjson_is_json_lines(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.ndjson", '{"a": 1}\n{"a": 2}\n')) == [{"a": 1}, {"a": 2}]


def test_line_of_five_megabytes_is_read(tmp_path: Path) -> None:
    row = {"text": "long " * 1_000_000}
    path = write(tmp_path, "a.jsonl", f'{json.dumps(row)}\n{{"text": "short"}}')
    assert read(path) == [row, {"text": "short"}]


@pytest.mark.parametrize("separator", ["", "\n", " \n  "])
def test_json_objects_longer_than_what_is_read_at_once(tmp_path: Path, separator: str) -> None:
    """A piece is 256 KiB: these objects end inside, beyond and astride of pieces."""
    rows = [{"n": n, "text": 'é\\"{[' * (n * 9_973)} for n in range(20)]
    path = write(tmp_path, "a.json", "[" + f"{separator},{separator}".join(map(json.dumps, rows)) + "]\n")
    assert read(path) == rows


def test_json_numbers_astride_of_pieces_are_whole(tmp_path: Path) -> None:
    numbers = list(range(100_000, 200_000))
    path = write(tmp_path, "a.json", json.dumps([{"n": n} for n in numbers]))
    assert [row["n"] for row in read(path)] == numbers


# Arrow


@pytest.fixture
def table() -> pa.Table:
    return pa.table({"text": [f"row {n}" for n in range(1000)], "turns": [[{"n": n}] for n in range(1000)]})


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_arrow_file_and_stream_give_what_was_written(tmp_path: Path, table: pa.Table, kind: str) -> None:
    file = tmp_path / "a.arrow"
    with (pa.ipc.new_file if kind == "file" else pa.ipc.new_stream)(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)
    assert read(str(file)) == [{"text": f"row {n}", "turns": [{"n": n}]} for n in range(1000)]
    assert places(str(file)) == list(range(1, 1001))


def test_folder_of_save_to_disk_gives_what_was_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"text": f"row {n}", "turns": [{"from": "human", "value": str(n)}]} for n in range(100)]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"), num_shards=3)
    assert len(list((tmp_path / "saved").glob("*.arrow"))) == 3
    assert read(str(tmp_path / "saved")) == rows


def test_objects_that_datasets_keeps_as_json_are_objects(tmp_path: Path) -> None:
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
    assert read(str(tmp_path / "saved")) == rows
    assert read(str(tmp_path / "a.parquet")) == rows


def test_parquet_of_several_row_groups_is_read_in_order(tmp_path: Path, table: pa.Table) -> None:
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=77)
    assert [row["text"] for row in read(str(tmp_path / "a.parquet"))] == [f"row {n}" for n in range(1000)]


# Packed


def pack(data: bytes, suffix: str) -> bytes:
    """Pack in two members, as ``cat a.gz b.gz`` leaves them."""
    half = len(data) // 2
    if suffix == ".gz":
        return gzip.compress(data[:half]) + gzip.compress(data[half:])
    return b"".join(pa.compress(each, "zstd", asbytes=True) for each in (data[:half], data[half:]))


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".GZ"])
@pytest.mark.parametrize("kind", ["json", "jsonl", "ndjson", "csv", "tsv", "txt"])
def test_packed_file_gives_the_rows_of_the_file(tmp_path: Path, kind: str, suffix: str) -> None:
    if kind in ("csv", "tsv"):
        plain = Path(write_csv(tmp_path, ROWS, f"a.{kind}", delimiter="," if kind == "csv" else "\t"))
    else:
        text = json.dumps(ROWS) if kind == "json" else "\n".join(map(json.dumps, ROWS))
        plain = Path(write(tmp_path, f"a.{kind}", text))
    packed = tmp_path / f"a.{kind}{suffix}"
    packed.write_bytes(pack(plain.read_bytes(), suffix.lower()))
    assert len(read(str(plain))) == 3
    assert read(str(packed)) == read(str(plain))
    assert places(str(packed)) == places(str(plain))
