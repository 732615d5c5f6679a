"""Sources, for any rows and any bytes: what was written is read, and nothing else ever happens."""

import csv
import gzip
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from xft.data.sources import Raw, RecordReader, RowLocation, parse, resolve_source
from xft.errors import DataError
from xft.types import Row

CALM = settings(deadline=None)  # a machine may be busy with something else
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(TEXT, VALUES, max_size=5), max_size=8)
NAMES = st.text(string.ascii_letters, min_size=1, max_size=5)


@st.composite
def tables(draw: Callable[..., Any], value: st.SearchStrategy[Any]) -> list[Row]:
    """Rows with the same columns, at least one of each."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    return list(draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, value)), min_size=1, max_size=8)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


def read(file: Path) -> list[Row]:
    return [parse(location, raw) for location, raw in RecordReader(resolve_source(str(file)))]


@CALM
@given(rows=ROWS, indent=st.sampled_from([None, 0, 2]), escape=st.booleans(), mark=st.booleans())
def test_any_json_list(folder: Path, rows: list[Row], indent: int | None, escape: bool, mark: bool) -> None:
    file = folder / "a.json"
    text = json.dumps(rows, ensure_ascii=escape, indent=indent)
    file.write_text(text, encoding="utf-8-sig" if mark else "utf-8")
    assert read(file) == rows


@CALM
@given(
    rows=ROWS,
    escape=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\n\n", "\n \r\n"]),
    last=st.booleans(),
    packed=st.booleans(),
)
def test_any_json_lines(
    folder: Path, rows: list[Row], escape: bool, end: str, last: bool, packed: bool
) -> None:
    text = end.join(json.dumps(each, ensure_ascii=escape) for each in rows) + (end if last else "")
    file = folder / ("a.jsonl.gz" if packed else "a.jsonl")
    file.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    records = list(RecordReader(resolve_source(str(file))))
    assert [parse(*each) for each in records] == rows
    lines = text.split("\n")
    assert [json.loads(lines[location.line - 1]) for location, _ in records] == rows, (
        "each line has its number"
    )


@CALM
@given(rows=tables(TEXT.filter(lambda text: "\0" not in text)), end=st.sampled_from(["\n", "\r\n"]))
def test_any_csv(folder: Path, rows: list[Row], end: str) -> None:
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(
                stream, list(rows[0]), delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL
            )
            writer.writeheader()
            writer.writerows(rows)
        assert read(folder / name) == rows


@pytest.mark.parametrize("kind", [pa.string(), pa.list_(pa.string())])
@CALM
@given(data=st.data())
def test_any_parquet_and_arrow(folder: Path, kind: pa.DataType, data: st.DataObject) -> None:
    rows = data.draw(tables(st.none() | (TEXT if kind == pa.string() else st.lists(TEXT, max_size=3))))
    table = pa.Table.from_pylist(rows, pa.schema([(name, kind) for name in rows[0]]))
    parquet.write_table(table, folder / "a.parquet", row_group_size=3)
    with pa.ipc.new_stream(folder / "a.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    assert read(folder / "a.parquet") == rows
    assert read(folder / "a.arrow") == rows


@CALM
@given(documents=st.lists(st.text(string.ascii_letters + " é", min_size=1).filter(str.strip), max_size=6))
def test_any_text(folder: Path, documents: list[str]) -> None:
    for gap in ("\n", "\n\n", "\r\n \r\n"):
        (folder / "a.txt").write_text(gap.join(documents), encoding="utf-8", newline="")
        assert [row["text"] for row in read(folder / "a.txt")] == documents


SHREDS = st.lists(
    st.binary(max_size=8)
    | st.sampled_from(
        [
            b"\n",
            b"\r\n",
            b'{"a": 1}\n',
            b'{"a": "b"}',
            b"[",
            b"]",
            b"{",
            b"}",
            b'"',
            b",",
            b"\\u",
            b"NaN",
            b"\xff",
        ]
    ),
    max_size=12,
).map(b"".join)


def outcome(location: RowLocation, raw: Raw) -> Row | str:
    """The row, or the message why there is none."""
    try:
        return parse(location, raw)
    except DataError as error:
        return str(error)


@settings(CALM, max_examples=300)
@given(content=SHREDS)
def test_any_bytes_of_json_lines_are_rows_or_errors(folder: Path, content: bytes) -> None:
    (folder / "b.jsonl").write_bytes(content)
    reader = RecordReader(resolve_source(str(folder / "b.jsonl")))
    records = list(reader)
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    assert [location.line for location, _ in records] == numbers
    assert (reader.available, reader.bytes_read) == (len(numbers), len(content))
    for location, raw in records:
        found = outcome(location, raw)
        assert isinstance(found, dict) or (found.startswith(f"{location}: ") and "\n" not in found)


@settings(CALM, max_examples=200)
@given(content=SHREDS)
@pytest.mark.parametrize(
    "name", ["b.json", "b.csv", "b.txt", "b.jsonl.gz", "b.json.zst", "b.parquet", "b.arrow"]
)
def test_any_bytes_of_another_kind_are_rows_or_errors(folder: Path, name: str, content: bytes) -> None:
    if name == "b.json":
        content = b'[{"a": 1},' + content + b"]"
    (folder / name).write_bytes(content)
    reader = RecordReader(resolve_source(str(folder / name)))
    records, stopped = [], ""
    try:
        for record in reader:
            records.append(record)
    except DataError as error:
        stopped = str(error)
    assert reader.available == len(records)
    assert stopped.startswith(str(folder / name)) if stopped else reader.bytes_read == len(content)
    assert "\n" not in stopped
    for location, raw in records:
        found = outcome(location, raw)
        assert isinstance(found, dict) or found.startswith(f"{location}: ")


@CALM
@given(rows=ROWS.filter(lambda rows: len(rows) > 1), data=st.data())
def test_json_list_reads_the_same_as_the_json_module_or_breaks_where_it_does(
    folder: Path, rows: list[Row], data: st.DataObject
) -> None:
    """One character is taken out: Python's own decoder says whether and where that breaks it."""
    text = json.dumps(rows, indent=data.draw(st.sampled_from([None, 1])))
    place = data.draw(st.integers(1, len(text) - 1))
    text = text[:place] + text[place + 1 :]
    (folder / "c.json").write_text(text, encoding="utf-8")
    reader = RecordReader(resolve_source(str(folder / "c.json")))
    expected, place = loads(text)
    if place:
        with pytest.raises(DataError) as caught:
            list(reader)
        assert str(caught.value).startswith(f"{folder / 'c.json'}:{place} (")
        return
    records = list(reader)
    assert len(records) == len(expected)
    assert all(
        raw == each for (_, raw), each in zip(records, expected, strict=True) if isinstance(raw, dict)
    )


def loads(text: str) -> tuple[Any, str]:
    """What Python's decoder makes of a text, or where it breaks."""
    try:
        return json.loads(text), ""
    except json.JSONDecodeError as error:
        return None, f"{error.lineno}: broken JSON at column {error.colno}"
