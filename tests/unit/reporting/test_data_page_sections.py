"""Tables of the data page: what was set aside, near duplicates, characters that a page would swallow."""

import html
import json
from pathlib import Path
from typing import Any

import pytest

from xft.data import Ledger, Prepared, Samples
from xft.reporting import data_page_sections
from xft.reporting.data_page_sections import parts_of, text

NOTHING = Samples([])


def part(name: str, **books: Any) -> str:
    """The text of a part of a page of empty splits, with these books."""
    return html.unescape(parts_of(Prepared(NOTHING, NOTHING, Ledger(**books)), None)[name])


def test_first_rows_set_aside_are_shown_and_the_file_of_all_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_page_sections, "_QUARANTINED", 3)
    rows: list[Any] = [{"a": "<b>\0"}, {"z": "x" * 5000}, None, {"never": "shown"}]
    lines = [
        {"file": "r.jsonl", "line": at, "reason": f"why {at}", "row": row} for at, row in enumerate(rows, 1)
    ]
    file = tmp_path / "quarantine.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    shown = part("quarantine", quarantine_files=[file])
    assert "Set aside: 4 rows" in shown
    assert "The first 3 of them." in shown
    assert f"<code>{file}</code>" in shown
    assert '<td>r.jsonl:1</td><td>why 1</td><td>{"a": "<b>\\u0000"}</td>' in shown
    # Of '{"z": "xxx…"}' with its 5,009 characters, 1,000 are shown.
    assert f'<td>{{"z": "{"x" * 993} … and 4,009 more characters</td>' in shown
    assert "<td>r.jsonl:3</td><td>why 3</td><td>could not be read</td>" in shown
    assert "never" not in shown


def test_near_duplicates_stand_beside_what_they_repeat() -> None:
    shown = part("near", near_duplicates=7, near_examples=[("a:1", "a:9", 0.876)])
    assert "Near duplicates: 7" in shown
    assert "<p>1 of 7:" in shown
    assert "<td>a:9</td><td>a:1</td><td>88%</td>" in shown


def test_without_such_rows_there_is_no_part() -> None:
    assert part("quarantine") == ""
    assert part("near") == ""


def test_characters_that_a_page_would_swallow_stand_as_pictures() -> None:
    assert text("a\0b\rc\x7f\nd\te<&\"'") == "a␀b␍c␡\nd\te&lt;&amp;&quot;&#x27;"
