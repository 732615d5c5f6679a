"""Columns and keys of turns that a format has not read."""

import copy
import json
from typing import Any

import pytest

from xft.data import formats
from xft.data.formats.tracked_row import (
    MAX_COLUMNS,
    ColumnUsage,
    TrackedRow,
)
from xft.types import Row

TURNS = [{"role": "user", "content": "q", "id": 7}, {"role": "assistant", "content": "a", "weight": 1}]
CHAT = {"messages": TURNS, "source": "web", "note": ""}


def unread(function: Any, *rows: Row) -> dict[str, int]:
    usage = ColumnUsage()
    for row in rows:
        tracked = TrackedRow(row)
        function(tracked)
        usage.add(tracked)
    return usage.unread()


@pytest.mark.parametrize(
    ("function", "row", "expected"),
    [
        (
            lambda row: formats.preference(row, prompt="instruction"),
            {"instruction": "q", "input": "x", "chosen": "a", "rejected": "b"},
            {"input": 1},
        ),
        (formats.alpaca, {"instruction": "q", "input": "x", "output": "a"}, {}),
        (formats.alpaca, {"instruction": "q", "input": "x", "output": "a", "id": 0}, {"id": 1}),
        (
            lambda row: formats.alpaca(row, fill={"name": "xft"}),
            {"instruction": "{{name}}?", "output": "a", "id": 0},
            {"id": 1},
        ),
        (formats.openai, CHAT, {"source": 1, "messages[].id": 1}),
        (formats.openai, CHAT | {"messages": json.dumps(TURNS)}, {"source": 1, "messages[].id": 1}),
        (
            formats.openai,
            CHAT | {"tools": [{"name": "f", "description": "x", "strict": True}]},
            {"source": 1, "messages[].id": 1},
        ),
        (formats.kto, {"prompt": "q", "completion": "a", "label": True, "weight": 2}, {"weight": 1}),
    ],
)
def test_columns_that_the_format_does_not_read(function: Any, row: Row, expected: dict[str, int]) -> None:
    before = copy.deepcopy(row)
    assert unread(function, row) == expected
    assert row == before


@pytest.mark.parametrize(
    "function",
    [
        dict,
        lambda row: {**row},
        lambda row: row | {},
        copy.deepcopy,
        json.dumps,
        list,
        lambda row: list(row.values()),
    ],
)
def test_copy_counts_as_reading(function: Any) -> None:
    assert unread(function, {"a": 1, "b": 2}) == {}


def test_column_read_in_one_row_is_not_reported() -> None:
    def function(row: Row) -> Any:
        return row["answer"] if row["kind"] == "qa" else row["text"]

    rows = [{"kind": "qa", "answer": "a", "text": "t"}, {"kind": "t", "answer": "a", "text": "t", "x": 1}]
    assert unread(function, *rows) == {"x": 1}


def test_chunks_are_merged() -> None:
    first, second = ColumnUsage(), ColumnUsage()
    for usage, read in ((first, "a"), (second, "b")):
        row = TrackedRow({"a": 1, "b": 1, "c": 1})
        row[read]
        usage.add(row)
    first.merge(second)
    assert first.unread() == {"c": 2}


def test_names_are_limited() -> None:
    usage = ColumnUsage()
    for number in range(MAX_COLUMNS + 10):
        usage.add(TrackedRow({f"{number}": 1}))
    assert len(usage.unread()) == MAX_COLUMNS


def test_turns_with_known_keys_stay_as_they_are() -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]
    assert TrackedRow({"messages": turns})["messages"] is turns
