"""The format of a dataset, from the first rows of its files."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from xft.data import InstructionData, PreferenceData
from xft.data.config import auto_format
from xft.data.config.auto_format import MAX_FILES, choose_format, is_auto, sample_rows
from xft.data.formats import alpaca, auto
from xft.data.sources import DataSource, resolve_source
from xft.errors import DataError
from xft.templates import BoundTemplate

ROWS = [{"Question": f"How many is {number}?", "Answer": f"It is {number}.", "Id": str(number)} for number in range(9)]  # fmt: skip
CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def jsonl(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def table(file: Path, rows: list[dict[str, str]]) -> Path:
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def source(path: Path) -> DataSource:
    return resolve_source(str(path))


def test_is_auto() -> None:
    assert is_auto(auto)
    assert is_auto(partial(auto))
    assert not is_auto(partial(alpaca, instruction="a"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".json", ".parquet", ".jsonl.gz"])
def test_the_same_rows_have_the_same_format_in_every_file_type(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows{suffix}"
    if suffix == ".csv":
        table(file, ROWS)
    elif suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    elif suffix == ".json":
        file.write_text(json.dumps(ROWS))
    elif suffix == ".jsonl":
        jsonl(file, ROWS)
    else:
        import gzip

        file.write_bytes(gzip.compress(jsonl(tmp_path / "a.jsonl", ROWS).read_bytes()))
    expected = {"type": "columns", "user": "Question", "assistant": "Answer"}
    assert choose_format([source(file)], "instruction") == expected


def test_turns_as_text_in_a_table_are_turns(tmp_path: Path) -> None:
    rows = [{"chat": json.dumps(CHAT), "id": "1"}]
    assert choose_format([source(table(tmp_path / "rows.csv", rows))], "instruction") == {
        "type": "openai",
        "messages": "chat",
    }


def test_text_file_is_text(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("Once\n\nTwice\n")
    assert choose_format([source(file)], "text") == {"type": "text"}


def test_the_first_rows_of_every_file_decide(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", ROWS)
    jsonl(tmp_path / "b.jsonl", [{"messages": CHAT}])
    sample = sample_rows(source(tmp_path))
    assert sample.rows == [*ROWS, {"messages": CHAT}]
    assert [place.line for place in sample.places] == [*range(1, 10), 1]


def test_the_files_of_a_sample_are_spread_over_all(tmp_path: Path) -> None:
    for number in range(100, 100 + 3 * MAX_FILES):
        jsonl(tmp_path / f"{number}.jsonl", [{"text": str(number)}] * 100)
    rows = sample_rows(source(tmp_path)).rows
    numbers = dict.fromkeys(int(row["text"]) for row in rows)
    assert list(numbers) == list(range(100, 100 + 3 * MAX_FILES, 3))
    assert len(rows) == 1000


def test_a_sample_of_large_rows_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_format, "MAX_BYTES", 2000)
    file = jsonl(tmp_path / "a.jsonl", [{"text": "a" * 900}] * 9)
    assert len(sample_rows(source(file)).rows) == 3


def test_sources_with_different_formats_are_an_error(tmp_path: Path) -> None:
    one = jsonl(tmp_path / "a.jsonl", ROWS)
    other = jsonl(tmp_path / "b.jsonl", [{"messages": CHAT}])
    with pytest.raises(DataError) as caught:
        choose_format([source(one), source(other)], "instruction")
    assert (caught.value.key, caught.value.expected) == ("data.format", "one format for all paths")


def test_sources_share_a_format_that_reads_the_context_of_one(tmp_path: Path) -> None:
    one = jsonl(tmp_path / "a.jsonl", [{"question": "Hi", "answer": "A"}] * 9)
    other = jsonl(tmp_path / "b.jsonl", [{"question": "Hi", "answer": "A", "context": "C"}])
    expected = {"type": "alpaca", "instruction": "question", "input": "context", "output": "answer"}
    assert choose_format([source(one), source(other)], "instruction") == expected


def test_rows_that_do_not_fit_are_named_unless_they_are_quarantined(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [*ROWS, {"messages": CHAT}, *ROWS, {"Question": "Hi", "Answer": None}]
    file = jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError) as caught:
        choose_format([source(file)], "instruction")
    assert str(caught.value).startswith(f"{file}:10: field Question: is missing")
    assert "2 of the 20 rows" in str(caught.value)
    assert str(caught.value).endswith(f"{file}:10, {file}:20")
    expected = {"type": "columns", "user": "Question", "assistant": "Answer"}
    assert choose_format([source(file)], "instruction", on_invalid="quarantine") == expected
    # The rows that are drawn may be others.
    assert choose_format([source(Path(f"{file}#5"))], "instruction") == expected


def test_damaged_rows_do_not_decide(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", ROWS)
    file.write_text("{\n" + file.read_text())
    assert len(sample_rows(source(file)).rows) == len(ROWS)
    file.write_text("{\n")
    with pytest.raises(DataError) as caught:
        sample_rows(source(file))
    assert f"{file}:1" in str(caught.value)
    file.write_text("")
    with pytest.raises(DataError) as caught:
        sample_rows(source(file))
    assert caught.value.key == "data.path"


@pytest.mark.parametrize("streaming", [True, False])
def test_a_hub_dataset_is_read_with_its_split_only(
    monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    import datasets

    calls: list[tuple[str, bool]] = []

    def load(*_: Any, split: str, streaming: bool) -> Any:
        calls.append((split, streaming))
        return iter([{"question": "Hi", "answer": "A"}] * 3)

    monkeypatch.setattr(datasets, "load_dataset", load)
    choose_format([resolve_source("owner/name")], "instruction", "test", streaming)
    assert set(calls) == {("test", streaming)}


def test_prepare_reports_the_choice_and_the_columns_that_are_not_read(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    file = table(tmp_path / "rows.csv", ROWS)
    data = InstructionData(path=str(file), val_split=None, cache_dir=str(tmp_path / "cache"))
    report = data.prepare(chatml.tokenizer, chatml).report
    assert report.formats == ["\"data.format=dict(type='columns', user='Question', assistant='Answer')\""]
    assert report.to_dict()["formats"] == report.formats
    assert report.ignored_columns == {"Id": len(ROWS)}
    assert report.rows_train == len(ROWS)


def test_the_kind_of_the_dataset_decides_too(tmp_path: Path, chatml: BoundTemplate) -> None:
    file = jsonl(tmp_path / "rows.jsonl", [{"prompt": "Hi", "chosen": "A", "rejected": "B"}] * 2)
    arguments: dict[str, Any] = {"path": str(file), "cache_dir": str(tmp_path / "cache"), "val_split": None}
    assert PreferenceData(**arguments).prepare(chatml.tokenizer, chatml).report.rows_train == 2
    with pytest.raises(DataError) as caught:
        InstructionData(**arguments).prepare(chatml.tokenizer, chatml)
    assert "--method dpo" in caught.value.fix
