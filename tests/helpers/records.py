"""Write files of rows, and read their records."""

import csv
from pathlib import Path
from typing import Any

import pytest

from xft.data.sources import RecordReader, parse, resolve_source
from xft.errors import DataError
from xft.types import Row


def write_file(folder: Path, name: str, content: str | bytes, encoding: str = "utf-8") -> str:
    """Write a file and return its path; text may have lone surrogates."""
    file = folder / name
    file.write_bytes(content.encode(encoding, "surrogatepass") if isinstance(content, str) else content)
    return str(file)


def write_csv(folder: Path, rows: list[Row], name: str = "rows.csv", **options: Any) -> str:
    """Write a table with the csv module and return its path."""
    file = folder / name
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def read_rows(path: str) -> list[Row]:
    """Return all rows of a path."""
    return [parse(location, raw) for location, raw in RecordReader(resolve_source(path))]


def row_numbers(path: str) -> list[int]:
    """Return the line or the number of each record."""
    return [location.line for location, _ in RecordReader(resolve_source(path))]


def rows_or_errors(path: str) -> list[Row | str]:
    """Return each row, or the message of its error."""
    results: list[Row | str] = []
    for location, raw in RecordReader(resolve_source(path)):
        try:
            results.append(parse(location, raw))
        except DataError as error:
            results.append(str(error))
    return results


def read_until_error(path: str) -> tuple[int, str]:
    """Return the number of records before reading fails, and the message, which is one line."""
    reader = RecordReader(resolve_source(path))
    with pytest.raises(DataError) as caught:
        list(reader)
    assert "\n" not in str(caught.value)
    return reader.available, str(caught.value)
