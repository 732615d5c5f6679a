"""JSON files with a list of objects, intact and broken."""

import json
from pathlib import Path

import pytest
from helpers.records import (
    read_rows,
    read_until_error,
    rows_or_errors,
    write_file,
)

ROWS = [
    {"instruction": "Translate.", "output": "中文 é 👩‍👩‍👧"},
    {"instruction": "Two\nlines", "output": 'with "quotes", commas'},
]


def only_error(path: str) -> str:
    [message] = [each for each in rows_or_errors(path) if isinstance(each, str)]
    assert "\n" not in message
    return message


def test_read_json_invalid_object_is_one_invalid_record(tmp_path: Path) -> None:
    content = b'[{"a": "x"}, ["b"], {"a": 1, "a": 2},\n {"a": NaN}, {"a": "caf\xe9"}, {"a": {"b": %s}}, {"a": 1e999}, 7, {"a": "z"}]'
    path = write_file(tmp_path, "a.json", content % (b"8" * 4301))
    assert rows_or_errors(path) == [
        {"a": "x"},
        f"{path}, row 2: got ['b']; expected an object such as {{\"instruction\": ...}}",
        f"{path}, row 3: the key 'a' stands twice in one object; take one out",
        f"{path}, row 4: NaN is not JSON; write null, or leave the key out",
        f"{path}, row 5: byte 10 is not UTF-8 (0xe9); convert the file to UTF-8: iconv -f cp1252 -t UTF-8 (Western Europe), or "
        "-f gb18030 (Chinese)",
        f"{path}, row 6: a number has too many digits; write it as text",
        f"{path}, row 7: the number '1e999' is too large; write it as text",
        f'{path}, row 8: got 7; expected an object such as {{"instruction": ...}}',
        {"a": "z"},
    ]


@pytest.mark.parametrize(
    ("content", "count", "problem"),
    [
        ('[\n {"a": 1},\n {"a" 2}\n]', 1, ":3: broken JSON at column 7 (Expecting ':' delimiter)"),
        ('[{"a": 1}\n {"a": 2}]', 1, ":2: broken JSON at column 2 (Expecting ',' delimiter)"),
        ('[{"a": 1},]', 1, ":1: broken JSON at column 11 (Expecting value)"),
        ('[{"a": 1}, {"b": 2}', 2, ":1: broken JSON at column 20 (Expecting ',' delimiter); the file ends before its list does"),
        ('[{"a": 1}, {"b": "2', 1, ":1: broken JSON at column 18 (Unterminated string starting at); the file ends before"),
        ('[\r\n{"a": 1}]\r\n[{"a": 2}]', 1, ":3: broken JSON at column 1 (Extra data)"),
        ("[", 0, ":1: broken JSON at column 2 (Expecting value); the file ends before"),
        ('[{"a": 1}, \0]', 1, ":1: broken JSON at column 12 (NUL bytes)"),
        (b'[{"a": 1}, \xff]', 1, ":1: broken JSON at column 12 (bytes that are not UTF-8)"),
        (b'[{"a": %s1%s}]' % (b"[" * 100_000, b"]" * 100_000), 0, ":1: broken JSON at column 2 (nested too deep"),
        ("nonsense", 0, ":1: broken JSON at column 1 (Expecting value)"),
    ],
)  # fmt: skip
def test_read_json_broken_list_raises_with_line_and_column(
    tmp_path: Path, content: str, count: int, problem: str
) -> None:
    path = write_file(tmp_path, "a.json", content)
    got, message = read_until_error(path)
    assert got == count
    assert message.startswith(path + problem)


@pytest.mark.parametrize("newlines", [0, 1])
def test_read_json_position_of_a_break_is_right_after_several_chunks(tmp_path: Path, newlines: int) -> None:
    """A megabyte of objects stands before it: more than is read at once."""
    whole = "[" + ("," + newlines * "\n").join(json.dumps({"n": n, "é": "é" * 40}) for n in range(9_000))
    path = write_file(tmp_path, "a.json", whole.replace('{"n": 8000', '{"n" 8000'))
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(Path(path).read_text(encoding="utf-8"))
    assert Path(path).stat().st_size > 1 << 20
    place = f"{path}:{expected.value.lineno}: broken JSON at column {expected.value.colno} "
    assert read_until_error(path)[0] == 8000
    assert read_until_error(path)[1].startswith(place)


def test_read_json_of_json_lines_raises_with_the_right_suffix(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.json", '{"a": 1}\n{"a": 2}\n')
    message = read_until_error(path)[1]
    assert message.startswith(f"{path}:2: ")
    assert "name it .jsonl" in message


@pytest.mark.parametrize(
    ("text", "kind"), [('{"a": 1}', "dict"), ('"text"', "str"), ("7", "int"), ("null", "NoneType")]
)
def test_read_json_without_a_list_raises(tmp_path: Path, text: str, kind: str) -> None:
    path = write_file(tmp_path, "a.json", text)
    assert read_until_error(path) == (0, f"{path}: got a JSON {kind}; expected a list of objects")


def test_read_json_names_the_list_inside_an_object(tmp_path: Path) -> None:
    path = write_file(tmp_path, "a.json", '{"version": 1, "data": [{"a": 1}]}')
    assert read_until_error(path)[1].endswith("write the list of its field 'data' to a separate file")


def test_read_json_endless_object_raises_before_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xft.data.sources.json_array.MAX_ROW_BYTES", 1000)
    path = write_file(tmp_path, "a.json", '[{"a": 1},\n {"a": "' + "5 6 " * 500_000 + '"}]')
    count, message = read_until_error(path)
    assert count == 1
    assert message.startswith(f"{path}:2: broken JSON at column 2 (a value of more than 1,000 characters")


def test_read_json_gives_the_objects(tmp_path: Path) -> None:
    assert read_rows(write_file(tmp_path, "a.json", json.dumps(ROWS, ensure_ascii=False, indent=1))) == ROWS


@pytest.mark.parametrize("separator", ["", "\n", " \n  "])
def test_read_json_objects_longer_than_a_chunk(tmp_path: Path, separator: str) -> None:
    """A chunk is 256 KiB; these objects end inside and across chunks."""
    rows = [{"n": n, "text": 'é\\"{[' * (n * 9_973)} for n in range(20)]
    path = write_file(
        tmp_path, "a.json", "[" + f"{separator},{separator}".join(map(json.dumps, rows)) + "]\n"
    )
    assert read_rows(path) == rows


def test_read_json_numbers_across_chunks_are_complete(tmp_path: Path) -> None:
    numbers = list(range(100_000, 200_000))
    path = write_file(tmp_path, "a.json", json.dumps([{"n": n} for n in numbers]))
    assert [row["n"] for row in read_rows(path)] == numbers
