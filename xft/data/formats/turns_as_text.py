"""Find the columns of a table that hold turns as text: in JSON, or as the Python literals that pandas writes.

A cell whose text looks like turns can also be an answer in JSON. The column decides: it holds turns if each filled cell
of the first rows does. Values in JSON files have types, so a text in them is never turns.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from xft.data.formats.getters import parse_list, type_error
from xft.data.sources import DataSource, Record, RecordReader
from xft.data.sources.file_types import file_type
from xft.errors import DataError

FIRST_ROWS = 1000
"""Rows that decide whether a column holds turns."""
_TABLES = (".csv", ".tsv", ".parquet", ".arrow")
_TURN_KEYS = ({"role", "content"}, {"from", "value"})


class TurnsAsText(str):
    """Filled cell of a column that holds turns as text."""

    __slots__ = ()

    def parse(self, field: str) -> Any:
        """Return the turn, or the list of turns.

        Raises:
            DataError: the text is neither, unlike the first rows of its column.
        """
        turns = _parse(self)
        if turns is None:
            fix = "read the column as text with format=dict(type='columns', ...)"
            raise type_error(field, str(self), "turns as JSON, as in the first rows of the column", fix)
        return turns


def find_turn_columns(source: DataSource, split: str = "train", streaming: bool = False) -> tuple[str, ...]:
    """Return the columns that hold turns as text, by the first rows of the tables of a source.

    Reading ends early if no column is left that may hold turns: in most tables, after the first row.

    Args:
        source: files, or a hub dataset.
        split: split of a hub dataset.
        streaming: stream a hub dataset.
    """
    files = tuple(file for file in source.files if file_type(file) in _TABLES)
    turns: set[str] = set()
    other: set[str] = set()
    records = RecordReader(replace(source, files=files, rows=None), split, streaming=streaming)
    for _, row in islice(records, FIRST_ROWS):
        if not isinstance(row, dict):
            continue
        for name, value in row.items():
            if name not in other and value not in (None, ""):
                (other if _parse(value) is None else turns).add(name)
        if row.keys() <= other:
            break
    return tuple(sorted(turns - other))


def mark_turn_columns(
    records: Iterable[Record], source: DataSource, columns: Collection[str] | None = None
) -> Iterable[Record]:
    """Return the records of a source. The filled cells of ``columns`` become :class:`TurnsAsText`.

    Args:
        records: of the source.
        source: files, or a hub dataset.
        columns: result of :func:`find_turn_columns`, which is called by default.
    """
    columns = find_turn_columns(source) if columns is None else columns
    return _mark(records, source, columns) if columns else records


def _mark(records: Iterable[Record], source: DataSource, columns: Collection[str]) -> Iterator[Record]:
    for location, raw in records:
        if isinstance(raw, dict) and (source.hub is not None or file_type(Path(location.file)) in _TABLES):
            cells = {name: TurnsAsText(raw[name]) for name in columns if isinstance(raw.get(name), str)}
            yield location, {**raw, **cells}
        else:
            yield location, raw


def _parse(value: object) -> Any:
    """Return the turn or the turns that a text spells; ``None`` for anything else."""
    if isinstance(value, str) and value.startswith(("[{", "{")):
        with suppress(DataError):
            parsed = parse_list(value, "", "turns")
            turns = [parsed] if isinstance(parsed, dict) else parsed
            if isinstance(turns, list) and all(map(_is_turn, turns)):
                return parsed
    return None


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and any(keys <= value.keys() for keys in _TURN_KEYS)
