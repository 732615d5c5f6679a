"""Broken JSON: each is refused with its place, and what can be read behind it is read."""

import json
from pathlib import Path

import pytest

from xft.data.sources import RecordReader, RowLocation, parse, resolve_source
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


def only_error(path: str) -> str:
    [message] = [each for each in outcomes(path) if isinstance(each, str)]
    assert "\n" not in message
    return message


def parsed(line: bytes) -> str:
    with pytest.raises(DataError) as caught:
        parse(RowLocation("a.jsonl", 7), line)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


# JSON lines


def test_broken_line_of_jsonl_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '\ufeff{"a": "x"}\r\n{"a": "y"}\r\n\r\n{"a": \r\n{"a": "z"}\n')
    rows = outcomes(path)
    assert [rows[0], rows[1], rows[3]] == [{"a": "x"}, {"a": "y"}, {"a": "z"}]
    message = only_error(path)
    assert message.startswith(f"{path}:4: broken JSON at column 7 (Expecting value)")
    assert "got '{\"a\": '" in message
    assert message.endswith("expected one whole object a line")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'"text"\n', "got 'text'; expected an object"),
        (b"3\n", "got 3; expected an object"),
        (b"null\n", "got None; expected an object"),
        (b"[1, 2]\n", "got [1, 2]; expected an object such as {\"instruction\": ...}; a file that holds one list is named .json"),
        (b"[\n", "a file that holds one list is named .json"),
        (b'{"a": "b', "the file ends here without a line break: it may have been cut off"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}\n', "the key 'c' stands twice in one object"),
        (b'{"a": NaN}\n', "NaN is not JSON; write null"),
        (b'{"a": -Infinity}\n', "-Infinity is not JSON"),
        (b'{"a": 1e999}\n', "the number '1e999' is too large"),
        (b'{"a": %s}\n' % (b"9" * 5000), "a number has too many digits"),
        (b'{"a": %s1%s}\n' % (b"[" * 100, b"]" * 100), "nested too deep; expected at most 100 levels"),
        (b'{"a": %s1%s}\n' % (b"[" * 100_000, b"]" * 100_000), "nested too deep; expected at most 100 levels"),
        (b'{"a":' * 50_000, "nested too deep"),
        (b'{"a": "\0"}\n', "it holds NUL bytes: the file is damaged"),
        (b"\0\0\0\0\n", "it holds NUL bytes: the file is damaged"),
        (b'\xef\xbb\xbf{"a": 1}\n', "a byte order mark stands before it, as where two files were joined"),
        (b'{"a": "caf\xe9"}\n', "byte 10 is not UTF-8 (0xe9); convert the file to UTF-8"),
        (b'{"a": "\xed\xa0\x80"}\n', "byte 7 is not UTF-8 (0xed)"),
        ('{"a": 1}\n'.encode("utf-16"), "looks like UTF-16; convert the file to UTF-8"),
        (b'{"a": 1} {"a": 2}\n', "broken JSON at column 10 (Extra data)"),
        (b"{'a': 1}\n", "broken JSON at column 2 (Expecting property name enclosed in double quotes)"),
        (b'{"a": "x\ty"}\n', "broken JSON at column 9 (Invalid control character at)"),
    ],
)  # fmt: skip
def test_line_that_is_not_taken_says_why(line: bytes, said: str) -> None:
    message = parsed(line)
    assert message.startswith("a.jsonl:7: ")
    assert said in message


def test_nesting_up_to_the_limit_is_taken() -> None:
    line = b'{"a": %s1%s, "b": "%s"}' % (b"[" * 99, b"]" * 99, b"[{" * 500)
    assert parse(RowLocation("a", 1), line) == json.loads(line)


def test_row_passes_and_an_error_is_raised_as_it_is() -> None:
    row: Row = {"a": float("nan")}
    assert parse(RowLocation("a", 1), row) is row
    error = DataError("a:1: wrong")
    with pytest.raises(DataError) as caught:
        parse(RowLocation("a", 1), error)
    assert caught.value is error


# A list in a JSON file


def test_object_that_is_not_taken_does_not_stop_a_list(tmp_path: Path) -> None:
    content = b'[{"a": "x"}, ["b"], {"a": 1, "a": 2},\n {"a": NaN}, {"a": "caf\xe9"}, {"a": {"b": %s}}, {"a": 1e999}, 7, {"a": "z"}]'
    path = write(tmp_path, "a.json", content % (b"8" * 4301))
    assert outcomes(path) == [
        {"a": "x"},
        f"{path}, row 2: got ['b']; expected an object such as {{\"instruction\": ...}}",
        f"{path}, row 3: the key 'a' stands twice in one object; take one out",
        f"{path}, row 4: NaN is not JSON; write null, or leave the key out",
        f"{path}, row 5: byte 10 is not UTF-8 (0xe9); convert the file to UTF-8",
        f"{path}, row 6: a number has too many digits; write it as text",
        f"{path}, row 7: the number '1e999' is too large; write it as text",
        f'{path}, row 8: got 7; expected an object such as {{"instruction": ...}}',
        {"a": "z"},
    ]


@pytest.mark.parametrize(
    ("content", "count", "said"),
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
def test_broken_list_stops_with_line_and_column(
    tmp_path: Path, content: str, count: int, said: str
) -> None:
    path = write(tmp_path, "a.json", content)
    got, message = stops(path)
    assert got == count
    assert message.startswith(path + said)


@pytest.mark.parametrize("newlines", [0, 1])
def test_place_of_a_break_is_right_behind_several_pieces(tmp_path: Path, newlines: int) -> None:
    """A megabyte of objects stands before it: more than is read at once."""
    whole = "[" + ("," + newlines * "\n").join(json.dumps({"n": n, "é": "é" * 40}) for n in range(9_000))
    path = write(tmp_path, "a.json", whole.replace('{"n": 8000', '{"n" 8000'))
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(Path(path).read_text(encoding="utf-8"))
    assert Path(path).stat().st_size > 1 << 20
    place = f"{path}:{expected.value.lineno}: broken JSON at column {expected.value.colno} "
    assert stops(path)[0] == 8000
    assert stops(path)[1].startswith(place)


def test_json_lines_in_a_json_file_are_recognised(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '{"a": 1}\n{"a": 2}\n')
    message = stops(path)[1]
    assert message.startswith(f"{path}:2: ")
    assert "name it .jsonl" in message


@pytest.mark.parametrize(
    ("text", "kind"), [('{"a": 1}', "dict"), ('"text"', "str"), ("7", "int"), ("null", "NoneType")]
)
def test_json_that_is_no_list_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    path = write(tmp_path, "a.json", text)
    assert stops(path) == (0, f"{path}: got a JSON {kind}; expected a list of objects")


def test_list_inside_an_object_is_pointed_at(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '{"version": 1, "data": [{"a": 1}]}')
    assert stops(path)[1].endswith("write the list of its field 'data' to a separate file")
