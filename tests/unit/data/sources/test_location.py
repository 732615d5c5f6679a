"""Rows of a limited size, and errors of sources as parts."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from xft.data.sources import RecordReader, parse, resolve_source
from xft.data.sources.location import (
    LONGEST_QUOTE,
    RowLocation,
    abbreviate,
    repeated_columns,
    source_error,
    truncate,
    undecodable,
)
from xft.errors import MAX_NAMES, DataError

LIMIT = 1000
READERS = ("arrow", "csv_files", "decompress", "json_array", "jsonl", "location")
SMALL, LARGE = {"text": "a"}, {"text": "b" * 2 * LIMIT}


def write_arrow(file: Path, rows: list[dict[str, str]]) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def write_lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


WRITERS: dict[str, Callable[[Path, list[dict[str, str]]], object]] = {
    "a.jsonl": write_lines,
    "a.json": lambda file, rows: file.write_text(json.dumps(rows), encoding="utf-8"),
    "a.csv": lambda file, rows: file.write_text("text\n" + "".join(row["text"] + "\n" for row in rows)),
    "a.txt": lambda file, rows: file.write_text("\n\n".join(row["text"] for row in rows)),
    "lines.txt": lambda file, rows: file.write_text("\n".join(row["text"] for row in rows)),
    "a.jsonl.gz": lambda file, rows: file.write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    ),
    "a.parquet": lambda file, rows: parquet.write_table(pa.Table.from_pylist(rows), file),
    "a.arrow": write_arrow,
}


@pytest.mark.parametrize("name", WRITERS)
def test_row_that_is_too_large_raises_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for module in READERS:
        monkeypatch.setattr(f"xft.data.sources.{module}.MAX_ROW_BYTES", LIMIT)
    file = tmp_path / name
    WRITERS[name](file, [SMALL, LARGE, SMALL])
    rows: list[object] = []
    try:
        for location, raw in RecordReader(resolve_source(str(file))):
            try:
                rows.append(parse(location, raw))
            except DataError as error:
                rows.append(error)
    except DataError as error:  # nothing can be read after it
        rows.append(error)
    assert rows[0] == SMALL
    assert isinstance(rows[1], DataError)
    assert rows[1].key.startswith(str(file))
    assert "MiB" in rows[1].expected or "limit of a row" in str(rows[1])
    assert rows[2:] in ([SMALL], [])


def test_source_error_has_parts() -> None:
    error = source_error(RowLocation("a.csv", 3), "got 1 fields", "2", "add one", got=1)
    assert (error.key, error.got, error.expected, error.fix) == ("a.csv:3", 1, "2", "add one")
    assert str(error) == "a.csv:3: got 1 fields; expected 2; add one"


def test_names_in_an_error_are_limited() -> None:
    names = [f"column {number}" for number in range(1_000_000)]
    message = str(repeated_columns("a.csv", names))
    assert len(message) < 1000
    assert f"and {len(names) - MAX_NAMES:,} more" in message


def test_truncate_keeps_short_text() -> None:
    assert truncate("abc", 3) == "abc"
    assert truncate("abcd", 3) == "ab…"


@pytest.mark.parametrize(
    ("location", "text", "key"),
    [
        (RowLocation("a.jsonl", 7), "a.jsonl:7", "line"),
        (RowLocation("a.json", 7, "row"), "a.json, row 7", "number"),
    ],
)
def test_row_location_as_text_and_as_key(location: RowLocation, text: str, key: str) -> None:
    assert str(location) == text
    assert location.number_key == key


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("short", "'short'"),
        ("a\nb", "'a\\nb'"),
        (3, "3"),
        (None, "None"),
        ("x" * LONGEST_QUOTE, repr("x" * LONGEST_QUOTE)),
        ("x" * (LONGEST_QUOTE + 1), repr("x" * (LONGEST_QUOTE - 1) + "…")),
    ],
)
def test_abbreviate_quotes_on_one_line(value: Any, text: str) -> None:
    assert abbreviate(value) == text


@pytest.mark.parametrize("value", [[[[[[1]]]]] * 50, {"a": "x" * 10_000}, 10**2000, object()])
def test_abbreviate_of_any_value_is_short(value: Any) -> None:
    assert len(abbreviate(value)) <= LONGEST_QUOTE
    assert "\n" not in abbreviate(value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"ab\xe9", "byte 2 is not UTF-8 (0xe9)"),
        ("a".encode("utf-16"), "UTF-16"),
        (b"\xfe\xff\0a", "UTF-16"),
    ],
)
def test_undecodable_names_the_byte_or_the_encoding(content: bytes, problem: str) -> None:
    with pytest.raises(UnicodeDecodeError) as caught:
        content.decode("utf-8")
    message = str(undecodable(RowLocation("a.txt", 3), caught.value))
    assert message.startswith("a.txt:3: ")
    assert problem in message
