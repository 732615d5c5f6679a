"""One line of JSON: accepted values, and the reason of a refusal."""

import json

import pytest

from xft.data.sources import RowLocation, parse
from xft.errors import DataError
from xft.types import Row


def parsed(line: bytes) -> str:
    with pytest.raises(DataError) as caught:
        parse(RowLocation("a.jsonl", 7), line)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "problem"),
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
def test_parse_invalid_line_raises_with_the_reason(line: bytes, problem: str) -> None:
    message = parsed(line)
    assert message.startswith("a.jsonl:7: ")
    assert problem in message


def test_parse_accepts_nesting_up_to_the_limit() -> None:
    line = b'{"a": %s1%s, "b": "%s"}' % (b"[" * 99, b"]" * 99, b"[{" * 500)
    assert parse(RowLocation("a", 1), line) == json.loads(line)


def test_parse_returns_a_row_and_raises_an_error_unchanged() -> None:
    row: Row = {"a": float("nan")}
    assert parse(RowLocation("a", 1), row) is row
    error = DataError("a:1: wrong")
    with pytest.raises(DataError) as caught:
        parse(RowLocation("a", 1), error)
    assert caught.value is error
