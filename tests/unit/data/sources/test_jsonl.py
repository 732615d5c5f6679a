"""JSON lines and text."""

import json
from pathlib import Path

import pytest
from helpers.records import (
    read_rows,
    row_numbers,
    rows_or_errors,
    write_file,
)

from xft.types import Row

ROWS: list[Row] = [
    {"instruction": "Translate.", "output": "中文 é 👩‍👩‍👧"},
    {"instruction": "Two\nlines", "output": 'with "quotes", commas'},
    {"instruction": "", "output": " spaces "},
]


def test_read_json_lines_skips_blank_lines(tmp_path: Path) -> None:
    lines = [json.dumps(each, ensure_ascii=False) for each in ROWS]
    path = write_file(tmp_path, "a.jsonl", f"{lines[0]}\n\n{lines[1]}\r\n  \n{lines[2]}")
    assert read_rows(path) == ROWS
    assert row_numbers(path) == [1, 3, 5]


def test_read_json_lines_keeps_line_separators_inside_a_string(tmp_path: Path) -> None:
    row = {"text": "a\u2028b\u2029c\u0085d"}
    written = json.dumps(row, ensure_ascii=False)
    assert "\u2028" in written
    assert read_rows(write_file(tmp_path, "a.jsonl", f"{written}\n{written}\n")) == [row, row]


def test_read_json_lines_of_ndjson(tmp_path: Path) -> None:
    assert read_rows(write_file(tmp_path, "a.ndjson", '{"a": 1}\n{"a": 2}\n')) == [{"a": 1}, {"a": 2}]


def test_read_json_lines_of_megabytes(tmp_path: Path) -> None:
    row = {"text": "long " * 1_000_000}
    path = write_file(tmp_path, "a.jsonl", f'{json.dumps(row)}\n{{"text": "short"}}')
    assert read_rows(path) == [row, {"text": "short"}]


def test_read_text_with_blank_lines_splits_at_them(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.txt", "first\nstill first\n\nsecond\n \t\n\n\nthird\n")
    assert read_rows(path) == [{"text": "first\nstill first"}, {"text": "second"}, {"text": "third"}]
    assert row_numbers(path) == [1, 4, 8]


def test_read_text_without_blank_lines_splits_at_each_line(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.txt", "first\nsecond\n  third\n")
    assert read_rows(path) == [{"text": "first"}, {"text": "second"}, {"text": "  third"}]
    assert row_numbers(path) == [1, 2, 3]


def test_read_text_with_windows_line_ends_splits_alike(tmp_path: Path) -> None:
    assert read_rows(write_file(tmp_path, "a.txt", "first\r\nstill\r\n\r\nsecond\r\n")) == [
        {"text": "first\nstill"},
        {"text": "second"},
    ]


def test_read_text_counts_blank_lines_at_the_start(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.txt", "\n\nfirst\n\nsecond\n")
    assert read_rows(path) == [{"text": "first"}, {"text": "second"}]
    assert row_numbers(path) == [3, 5]


def test_read_text_keeps_indentation(tmp_path: Path) -> None:
    assert read_rows(write_file(tmp_path, "a.txt", "    if a:\n\n    if b:\n        pass\n")) == [
        {"text": "    if a:"},
        {"text": "    if b:\n        pass"},
    ]


def test_read_text_keeps_every_line_of_real_text(shared: Path) -> None:
    file = shared / "data" / "wiki_demo.txt"
    expected = [line.strip() for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    got = [line.strip() for row in read_rows(str(file)) for line in row["text"].split("\n") if line.strip()]
    assert got == expected


@pytest.mark.parametrize(
    ("bad", "problem"), [(b"caf\xe9", "byte 8 is not UTF-8 (0xe9)"), (b"x\0", "holds a NUL byte")]
)
def test_read_text_damaged_document_is_one_invalid_record(tmp_path: Path, bad: bytes, problem: str) -> None:
    path = write_file(tmp_path, "a.txt", b"one\n\ntwo\n\r\n" + b"four\n" + bad + b"\n\nlast")
    one, two, broken, last = rows_or_errors(path)
    assert (one, two, last) == ({"text": "one"}, {"text": "two"}, {"text": "last"})
    assert str(broken).startswith(f"{path}:5: {problem}")


def test_read_json_lines_broken_line_is_one_invalid_record(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.jsonl", '\ufeff{"a": "x"}\r\n{"a": "y"}\r\n\r\n{"a": \r\n{"a": "z"}\n')
    rows = rows_or_errors(path)
    assert [rows[0], rows[1], rows[3]] == [{"a": "x"}, {"a": "y"}, {"a": "z"}]
    message = str(rows[2])
    assert message.startswith(f"{path}:4: broken JSON at column 7 (Expecting value)")
    assert "got '{\"a\": '" in message
    assert message.endswith("expected one whole object a line")
