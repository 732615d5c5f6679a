"""A column of a table holds turns as text if each filled cell of the first rows does."""

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.records import write_csv

from xft.data.formats import turns_as_text
from xft.data.formats.turns_as_text import TurnsAsText, find_turn_columns, mark_turn_columns
from xft.data.sources import RecordReader, resolve_source
from xft.types import Row

TURNS = json.dumps([{"role": "assistant", "content": "Yes"}])
LITERAL = str([{"from": "gpt", "value": "Yes"}])


def write(folder: Path, kind: str, rows: list[Row]) -> str:
    path = folder / f"rows.{kind}"
    if kind == "csv":
        return write_csv(folder, rows)
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    else:
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return str(path)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("cells", "is_turns"),
    [
        ([TURNS, LITERAL], True),
        (["", TURNS], True),
        ([TURNS, "Yes"], False),
        (["Yes", TURNS], False),
        (["", ""], False),
        (["[1]", TURNS], False),
        (["{}", TURNS], False),
    ],
)
def test_each_filled_cell_decides(tmp_path: Path, kind: str, cells: list[Any], is_turns: bool) -> None:
    path = write(tmp_path, kind, [{"a": cell, "b": "text"} for cell in cells])
    assert find_turn_columns(resolve_source(path)) == (("a",) if is_turns else ())


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_text_in_json_is_never_turns(tmp_path: Path, kind: str) -> None:
    source = resolve_source(write(tmp_path, kind, [{"a": TURNS}] * 3))
    assert find_turn_columns(source) == ()
    records = RecordReader(source)
    assert mark_turn_columns(records, source) is records


def test_rows_of_tables_are_marked(tmp_path: Path) -> None:
    write(tmp_path, "csv", [{"a": TURNS, "b": "text"}, {"a": "", "b": "text"}])
    write(tmp_path, "json", [{"a": TURNS, "b": "text"}])
    source = resolve_source(str(tmp_path))
    rows = [raw for _, raw in mark_turn_columns(RecordReader(source), source) if isinstance(raw, dict)]
    assert [[type(value) for value in row.values()] for row in rows] == [
        [TurnsAsText, str],
        [TurnsAsText, str],
        [str, str],
    ]


def test_only_the_first_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_as_text, "FIRST_ROWS", 2)
    path = write(tmp_path, "csv", [{"a": TURNS}, {"a": TURNS}, {"a": "Yes"}])
    assert find_turn_columns(resolve_source(path)) == ("a",)
