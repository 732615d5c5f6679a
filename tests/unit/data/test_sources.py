"""Sources: every kind of file against rows written by hand, and every kind of broken file."""

import csv
import json
import re
from pathlib import Path

import pytest

from xft.data.sources import Origin, locate, read_rows
from xft.errors import ConfigError, DataError
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


def write_csv(folder: Path, rows: list[Row]) -> str:
    file = folder / "rows.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def read(path: str) -> list[Row]:
    return [row for _, row in read_rows(path)]


def places(path: str) -> list[int]:
    return [origin.line for origin, _ in read_rows(path)]


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
    import pyarrow as pa
    from pyarrow import parquet

    rows: list[Row] = [
        {"text": "é", "turns": [{"from": "human", "value": "Hi"}]},
        {"text": None, "turns": []},
    ]
    file = tmp_path / "a.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), file)
    assert read(str(file)) == rows
    assert [str(origin) for origin, _ in read_rows(str(file))] == [f"{file}, row 1", f"{file}, row 2"]


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
    assert str(Origin("a.jsonl", 7)) == "a.jsonl:7"
    assert str(Origin("a.json", 7, "row")) == "a.json, row 7"


# What is refused


def refused(path: str) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    return str(caught.value)


def test_broken_line_of_jsonl_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"a": "x"}\n{"a": "y"}\n\n{"a": \n')
    message = refused(path)
    assert message.startswith(f"{path}:4: broken JSON")
    assert "got '{\"a\": '" in message
    assert "expected one whole object a line" in message


def test_broken_json_is_named_by_file_line_and_column(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '[\n {"a": 1},\n {"a" 2}\n]')
    assert refused(path).startswith(f"{path}:3: broken JSON at column 7")


def test_json_lines_in_a_json_file_are_recognised(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '{"a": 1}\n{"a": 2}\n')
    message = refused(path)
    assert message.startswith(f"{path}:2: ")
    assert "name it .jsonl" in message


@pytest.mark.parametrize(
    ("text", "kind"), [('{"a": 1}', "dict"), ('"text"', "str"), ("7", "int"), ("null", "NoneType")]
)
def test_json_that_is_no_list_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    path = write(tmp_path, "a.json", text)
    assert refused(path) == f"{path}: got a JSON {kind}, expected a list of objects"


def test_json_list_of_something_else_than_objects_names_the_row(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '[{"a": 1}, ["b"]]')
    message = refused(path)
    assert message.startswith(f"{path}, row 2: got ")
    assert "['b']" in message
    assert "expected an object" in message


@pytest.mark.parametrize(("text", "got"), [('"text"', "text"), ("[1, 2]", "[1, 2]"), ("3", "3")])
def test_line_of_jsonl_that_is_no_object_names_the_line(tmp_path: Path, text: str, got: str) -> None:
    path = write(tmp_path, "a.jsonl", f'{{"a": 1}}\n{text}\n')
    message = refused(path)
    assert message.startswith(f"{path}:2: got ")
    assert got in message
    assert "expected an object" in message


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.txt"])
@pytest.mark.parametrize("text", ["", "\n", " \n \n"])
def test_empty_file_is_refused(tmp_path: Path, name: str, text: str) -> None:
    if name == "a.csv" and text.strip("\n"):
        text = "instruction,output\n"  # a line of blanks is a header to csv; this one has no rows
    path = write(tmp_path, name, text)
    assert refused(path).startswith(f"{path}: no rows")


def test_empty_json_list_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", "[]")
    assert refused(path).startswith(f"{path}: no rows")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.txt"])
def test_bytes_that_are_not_utf8_are_refused_with_their_place(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(b'[{"a": "caf\xe9"}]')
    assert refused(str(file)) == f"{file}: byte 11 is not UTF-8; convert the file to UTF-8"


@pytest.mark.parametrize("line", ["x", "x,y,z"])
def test_csv_row_with_another_number_of_fields_is_refused(tmp_path: Path, line: str) -> None:
    path = write(tmp_path, "a.csv", f"a,b\n1,2\n{line}\n")
    message = refused(path)
    assert message.startswith(f"{path}:3: ")
    assert "header's 2" in message


def test_csv_with_an_open_quote_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'a,b\n1,"2\n')
    message = refused(path)
    assert message.startswith(f"{path}:2: broken CSV")


def test_csv_takes_a_field_of_any_length(tmp_path: Path) -> None:
    """The csv module stops at 131,072 characters unless told otherwise: a document may be longer."""
    rows: list[Row] = [{"text": "x" * 200_000}, {"text": "y"}]
    assert read(write_csv(tmp_path, rows)) == rows


def test_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.parquet", "not parquet at all")
    assert refused(path).startswith(f"{path}: not a parquet file")


# What is not found


def not_located(path: str) -> str:
    with pytest.raises(ConfigError) as caught:
        locate(path)
    return str(caught.value)


@pytest.mark.parametrize("name", ["missing.json", "missing.jsonl", "missing", "folder/missing.csv"])
def test_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    message = not_located(path)
    assert f"{path} does not exist" in message
    assert ".jsonl" in message


def test_folder_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path} is a folder" in not_located(str(tmp_path))


def test_relative_folder_is_no_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "rows").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "data/rows is a folder" in not_located("data/rows")
    assert "data/rowz does not exist" in not_located("data/rowz")


def test_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "a.xlsx", "x")
    message = not_located(path)
    assert "ends in '.xlsx'" in message
    assert ".json, .jsonl, .csv, .parquet, .txt" in message


def test_name_of_the_hub_is_left_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate("owner/name") is None


def test_unknown_asset_is_refused_with_the_shipped_ones() -> None:
    message = not_located("xft://no_such_rows.jsonl")
    assert re.search(r"no_such_rows\.jsonl is not shipped with xft", message)
