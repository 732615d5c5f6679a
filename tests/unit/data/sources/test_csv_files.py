"""Tables with the csv module: quotes, line ends, and damaged rows."""

from pathlib import Path

import pytest
from helpers.records import (
    read_rows,
    read_until_error,
    row_numbers,
    rows_or_errors,
    write_csv,
    write_file,
)

from xft.types import Row

ROWS: list[Row] = [
    {"instruction": "Translate.", "output": "中文 é 👩‍👩‍👧"},
    {"instruction": "Two\nlines", "output": 'with "quotes", commas'},
    {"instruction": "", "output": " spaces "},
]


def test_read_csv_gives_the_rows_of_the_csv_module(tmp_path: Path) -> None:
    assert read_rows(write_csv(tmp_path, ROWS)) == ROWS


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_read_csv_ends_a_row_at_line_feeds_only(tmp_path: Path, separator: str) -> None:
    """The csv module writes these characters without quotes: they end no row."""
    rows: list[Row] = [{"a": f"one{separator}two", "b": "x"}, {"a": "three", "b": f"{separator}y"}]
    assert read_rows(write_csv(tmp_path, rows)) == rows


def test_read_csv_row_of_several_lines_has_the_number_of_its_first(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.csv", 'a,b\r\n"1\r\n2",x\r\n\r\n"3\n4\n5",y\r\n6,z\r\n')
    assert read_rows(path) == [{"a": "1\r\n2", "b": "x"}, {"a": "3\n4\n5", "b": "y"}, {"a": "6", "b": "z"}]
    assert row_numbers(path) == [2, 5, 8]


def test_read_csv_accepts_carriage_returns_as_line_ends(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.csv", "a,b\r1,2\r3,4\r")
    assert read_rows(path) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert row_numbers(path) == [2, 3]


def test_read_csv_skips_blank_lines_before_the_header(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.csv", "\n\na,b\n1,2\n")
    assert (read_rows(path), row_numbers(path)) == ([{"a": "1", "b": "2"}], [4])


def test_read_tsv_separates_at_tabs(tmp_path: Path) -> None:
    rows: list[Row] = [{"a": "1,2", "b": "x\ty"}, {"a": 'a "b"', "b": ""}]
    assert read_rows(write_csv(tmp_path, rows, "a.tsv", dialect="excel-tab")) == rows


@pytest.mark.parametrize("separator", [";", "\t"])
def test_read_csv_separates_at_another_character_if_the_header_has_no_comma(
    tmp_path: Path, separator: str
) -> None:
    path = write_file(tmp_path, "a.csv", f'a{separator}b\n1,5{separator}"x{separator}y"\n')
    assert read_rows(path) == [{"a": "1,5", "b": f"x{separator}y"}]


def test_read_csv_keeps_semicolons_in_a_header_with_commas_and_a_single_column(tmp_path: Path) -> None:
    assert read_rows(write_file(tmp_path, "a.csv", "a;b,c\n1,2\n")) == [{"a;b": "1", "c": "2"}]
    assert read_rows(write_file(tmp_path, "b.csv", "a\n1\n")) == [{"a": "1"}]


def test_read_csv_accepts_a_long_field(tmp_path: Path) -> None:
    """The csv module stops at 131,072 characters unless told otherwise: a document may be longer."""
    rows: list[Row] = [{"text": "x" * 200_000}, {"text": "y"}]
    assert read_rows(write_csv(tmp_path, rows)) == rows


@pytest.mark.parametrize(("line", "count"), [("x", 1), ("x,y,z", 3)])
def test_read_csv_other_number_of_fields_is_one_invalid_record(
    tmp_path: Path, line: str, count: int
) -> None:
    path = write_file(tmp_path, "a.csv", f'a,b\r\n"1\r\n1",2\r\n{line}\r\n3,4\r\n')
    message = f"{path}:4: got {count} fields; expected the header's 2"
    assert rows_or_errors(path) == [{"a": "1\r\n1", "b": "2"}, message, {"a": "3", "b": "4"}]


def test_read_csv_open_quote_raises_with_its_line(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.csv", 'a,b\n1,2\n1,"2\n3,4\n')
    count, message = read_until_error(path)
    assert count == 1
    assert message.startswith(f"{path}:3: broken CSV (a quote that this row opens is not closed")
    assert "line 4" in message


def test_read_csv_stray_quote_is_one_invalid_record_with_its_lines(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.csv", 'a,b\n1,"2\n3,"4"\n5,6\n')
    broken, good = rows_or_errors(path)
    assert str(broken).startswith(f"{path}:2: broken CSV (")
    assert "up to line 3" in str(broken)
    assert good == {"a": "5", "b": "6"}


def test_read_csv_duplicate_column_raises(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.csv", "a,b,a\n1,2,3\n")
    assert read_until_error(path) == (
        0,
        f"{path}:1: several columns have the name 'a'; expected unique names",
    )


@pytest.mark.parametrize(
    ("bad", "problem"),
    [(b"caf\xe9,y", "byte 3 is not UTF-8 (0xe9)"), (b"x\0,y", "holds a NUL byte: the file is damaged")],
)
def test_read_csv_damaged_bytes_are_one_invalid_record(tmp_path: Path, bad: bytes, problem: str) -> None:
    path = write_file(tmp_path, "a.csv", b"a,b\n1,2\n" + bad + b"\n3,4\n")
    rows = rows_or_errors(path)
    assert [rows[0], rows[2]] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert str(rows[1]).startswith(f"{path}:3: {problem}")


def test_read_csv_endless_row_raises_before_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xft.data.sources.csv_files.MAX_ROW_BYTES", 1000)
    path = write_file(tmp_path, "a.csv", 'a,b\n1,2\n3,"4\n' + "5,6\n" * 1000)
    count, message = read_until_error(path)
    assert count == 1
    assert message.startswith(f"{path}:3: has more than")
