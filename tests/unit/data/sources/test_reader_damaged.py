"""Broken tables, text and packings: each is refused with its place, and what follows is read."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from xft.data.sources import DataSource, RecordReader, fingerprint, parse, resolve_source
from xft.errors import DataError
from xft.types import Row


def write(folder: Path, name: str, content: str | bytes) -> str:
    file = folder / name
    file.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return str(file)


def outcomes(path: str) -> list[Row | str]:
    """Rows, and the messages of those that are none."""
    found: list[Row | str] = []
    for location, raw in RecordReader(resolve_source(path)):
        try:
            found.append(parse(location, raw))
        except DataError as error:
            found.append(str(error))
    return found


def stops(path: str) -> tuple[int, str]:
    """How many records come before reading cannot go on, and the message."""
    reader = RecordReader(resolve_source(path))
    with pytest.raises(DataError) as caught:
        list(reader)
    assert "\n" not in str(caught.value)
    return reader.available, str(caught.value)


# CSV


@pytest.mark.parametrize(("line", "count"), [("x", 1), ("x,y,z", 3)])
def test_csv_row_with_another_number_of_fields_is_refused(tmp_path: Path, line: str, count: int) -> None:
    path = write(tmp_path, "a.csv", f'a,b\r\n"1\r\n1",2\r\n{line}\r\n3,4\r\n')
    message = f"{path}:4: got {count} fields; expected the header's 2"
    assert outcomes(path) == [{"a": "1\r\n1", "b": "2"}, message, {"a": "3", "b": "4"}]


def test_csv_with_an_open_quote_stops_at_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'a,b\n1,2\n1,"2\n3,4\n')
    count, message = stops(path)
    assert count == 1
    assert message.startswith(f"{path}:3: broken CSV (a quote that this row opens is not closed")
    assert "line 4" in message


def test_csv_row_with_a_stray_quote_is_refused_with_its_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'a,b\n1,"2\n3,"4"\n5,6\n')
    broken, good = outcomes(path)
    assert str(broken).startswith(f"{path}:2: broken CSV (")
    assert "up to line 3" in str(broken)
    assert good == {"a": "5", "b": "6"}


def test_csv_with_a_column_name_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "a,b,a\n1,2,3\n")
    assert stops(path) == (0, f"{path}:1: several columns have the name 'a'; expected unique names")


@pytest.mark.parametrize(
    ("bad", "said"),
    [(b"caf\xe9,y", "byte 3 is not UTF-8 (0xe9)"), (b"x\0,y", "holds a NUL byte: the file is damaged")],
)
def test_csv_row_with_damaged_bytes_is_refused_alone(tmp_path: Path, bad: bytes, said: str) -> None:
    path = write(tmp_path, "a.csv", b"a,b\n1,2\n" + bad + b"\n3,4\n")
    rows = outcomes(path)
    assert [rows[0], rows[2]] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert str(rows[1]).startswith(f"{path}:3: {said}")


# Text, and all kinds


@pytest.mark.parametrize(
    ("bad", "said"), [(b"caf\xe9", "byte 8 is not UTF-8 (0xe9)"), (b"x\0", "holds a NUL byte")]
)
def test_document_with_damaged_bytes_is_refused_alone(tmp_path: Path, bad: bytes, said: str) -> None:
    path = write(tmp_path, "a.txt", b"one\n\ntwo\n\r\n" + b"four\n" + bad + b"\n\nlast")
    one, two, broken, last = outcomes(path)
    assert (one, two, last) == ({"text": "one"}, {"text": "two"}, {"text": "last"})
    assert str(broken).startswith(f"{path}:5: {said}")


@pytest.mark.parametrize(
    "name", ["a.json", "a.jsonl", "a.csv", "a.tsv", "a.txt", "a.jsonl.gz", "a.json.zst"]
)
@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "\ufeff\r\n\r\n"])
def test_empty_file_has_no_records(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path, name, gzip.compress(text.encode()) if name.endswith("gz") else text)
    if name.endswith("zst"):
        path = write(tmp_path, name, pa.compress(text.encode(), "zstd", asbytes=True))
    reader = RecordReader(resolve_source(path))
    assert list(reader) == []
    assert reader.available == 0


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_packed_file_that_is_cut_off_stops_behind_what_it_gave(tmp_path: Path, name: str) -> None:
    rows = b"".join(b'{"n": %d, "t": "%s"}\n' % (n, os.urandom(50).hex().encode()) for n in range(20_000))
    whole = gzip.compress(rows) if name.endswith("gz") else pa.compress(rows, "zstd", asbytes=True)
    path = write(tmp_path, name, whole[: len(whole) // 2])
    count, message = stops(path)
    assert 5_000 < count < 10_001
    assert message.startswith(f"{path}:{count}: nothing can be read behind it (")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_file_that_is_not_packed_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, '{"a": 1}\n')
    assert stops(path)[1].startswith(f"{path}: cannot be read (")


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize(
    "content", [b"", b"not a table at all", b"ARROW1\0\0 and then nothing", b"PAR1PAR1"]
)
def test_file_that_is_no_table_is_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    path = write(tmp_path, f"a.{kind}", content)
    count, message = stops(path)
    assert count == 0
    assert message.startswith(f"{path}: is not {'a parquet' if kind == 'parquet' else 'an arrow'} file, ")


def test_text_in_a_table_that_is_not_utf8_is_refused_alone(tmp_path: Path) -> None:
    texts = pa.array([b"one", b"caf\xe9", b"three"]).cast(pa.binary()).view(pa.string())
    parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    first, error, third = outcomes(path)
    assert (first, third) == ({"text": "one"}, {"text": "three"})
    assert str(error).startswith(f"{path}, row 2: cannot be read (")
    assert "UTF8" in str(error)


def test_column_of_a_table_that_stands_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    assert stops(str(tmp_path / "a.arrow"))[1].endswith(
        "several columns have the name 'a'; expected unique names"
    )


@pytest.mark.parametrize(
    "kind", ["json", "jsonl", "csv", "txt", "jsonl.gz", "jsonl.zst", "parquet", "arrow"]
)
def test_file_that_is_gone_since_it_was_located_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, f"a.{kind}", "")
    source = resolve_source(path)
    Path(path).unlink()
    with pytest.raises(DataError, match=r"cannot be read \(.*No such file or directory"):
        list(RecordReader(source))
    for ask in (lambda: source.size, lambda: fingerprint(source, "train")):
        with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\)"):
            ask()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"a": 1}')
    Path(path).chmod(0)
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be read \(Permission denied\)"):
        list(RecordReader(DataSource(path, (Path(path),))))


# Quotes that swallow a file: memory does not follow them without end


def test_csv_row_without_end_is_refused_before_the_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xft.data.sources.csv_files.MAX_ROW_BYTES", 1000)
    path = write(tmp_path, "a.csv", 'a,b\n1,2\n3,"4\n' + "5,6\n" * 1000)
    count, message = stops(path)
    assert count == 1
    assert message.startswith(f"{path}:3: has more than")


def test_json_object_without_end_is_refused_before_the_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xft.data.sources.json_array.MAX_ROW_BYTES", 1000)
    path = write(tmp_path, "a.json", '[{"a": 1},\n {"a": "' + "5 6 " * 500_000 + '"}]')
    count, message = stops(path)
    assert count == 1
    assert message.startswith(f"{path}:2: broken JSON at column 2 (a value of more than 1,000 characters")
