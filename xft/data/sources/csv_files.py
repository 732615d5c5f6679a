"""Read csv and tsv files with the ``csv`` module.

Tried: ``pyarrow.csv`` numbers rows instead of lines, accepts stray and unclosed quotes, and stops at bytes that are
not UTF-8. Here a damaged row is one invalid record with the line of its start.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from xft.data.sources.decompress import Progress, Stream
from xft.data.sources.location import (
    MAX_ROW_BYTES,
    Raw,
    Record,
    RowLocation,
    damaged_text,
    repeated_columns,
    source_error,
    too_large,
    undecodable,
)
from xft.errors import DataError

_LONGEST_FIELD = 2**31 - 1


def _read_table(file: Path, progress: Progress, delimiter: str) -> Iterator[Record]:
    """The rows of a table whose first row names the columns. Blank lines are no rows.

    Raises:
        DataError: the header cannot be used, or a quote is not closed before the file ends.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    with Stream(file, progress) as stream:
        # Fields keep their line breaks as they are; only the reader may say what ends a row.
        text = io.TextIOWrapper(stream.reader, "utf-8-sig", errors="surrogateescape", newline="")
        names: list[str] | None = None
        for location, fields in _rows(stream.name, text, delimiter):
            if isinstance(fields, DataError):
                if names is None:
                    raise fields
                yield location, fields
            elif names is None:
                names = _header(location, fields)
            else:
                yield location, _row(location, names, fields)


read_csv = partial(_read_table, delimiter=",")
read_tsv = partial(_read_table, delimiter="\t")


class _Lines:
    """Hands lines to the csv reader, and keeps those of the row at hand."""

    def __init__(self, name: str, text: io.TextIOWrapper) -> None:
        self._name = name
        self._text = text
        self.header = text.readline(MAX_ROW_BYTES + 1)
        self._pending = self.header
        self.number = 0
        self.ended = False
        self.begin()

    def begin(self) -> None:
        """A row begins."""
        self.row: list[str] = []
        self.size = 0
        self.location = RowLocation(self._name, self.number + 1)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line, self._pending = self._pending or self._text.readline(MAX_ROW_BYTES + 1), ""
        if not line:
            self.ended = True
            raise StopIteration
        if self.size + len(line) > MAX_ROW_BYTES:
            raise too_large(self.location, "split the row, or close a quote in it")
        self.number += 1
        self.size += len(line)
        self.row.append(line)
        return line


def _rows(
    name: str, text: io.TextIOWrapper, delimiter: str
) -> Iterator[tuple[RowLocation, list[str] | DataError]]:
    lines = _Lines(name, text)
    if delimiter == "," and "," not in lines.header:
        # Spreadsheets write semicolons where the comma is the decimal separator.
        delimiter = next((other for other in ";\t" if other in lines.header), delimiter)
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    while True:
        lines.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.ended:
                problem = "a quote that this row opens is not closed before the file ends, in line"
                raise source_error(lines.location, f"broken CSV ({problem} {lines.number})") from error
            upto = f", up to line {lines.number}" if lines.number > lines.location.line else ""
            yield lines.location, source_error(lines.location, f"broken CSV ({error}{upto})")
            continue
        if fields:
            yield lines.location, _damage(lines.location, "".join(lines.row)) or fields


def _damage(location: RowLocation, row: str) -> DataError | None:
    """What is wrong with the characters of a row, if anything is."""
    if "\0" in row:
        return damaged_text(location)
    if row.isascii():
        return None
    try:
        # Bytes that are not UTF-8 were escaped by the text reader; nothing else is refused here.
        row.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError as error:
        return undecodable(location, error)
    return None


def _header(location: RowLocation, names: list[str]) -> list[str]:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise repeated_columns(location, twice)
    return names


def _row(location: RowLocation, names: list[str], fields: list[str]) -> Raw:
    if len(fields) != len(names):
        problem, expected = f"got {len(fields)} fields", f"the header's {len(names)}"
        return source_error(location, problem, expected, got=len(fields))
    return dict(zip(names, fields, strict=True))
