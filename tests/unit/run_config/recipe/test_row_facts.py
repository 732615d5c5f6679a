"""What is known of rows before they are prepared."""

import json
from pathlib import Path
from typing import Any

import pytest

from xft.errors import DataError
from xft.run_config.recipe.row_facts import inspect_rows
from xft.templates import SOURCES, ChatTemplate

QA = {"question": "How many is one?", "answer": "It is one, which comes before two."}


def write(folder: Path, *rows: dict[str, Any]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (QA, "instruction"),
        ({"prompt": "Hi", "chosen": "A", "rejected": "B"}, "preference"),
        ({"prompt": "Hi", "completion": "A", "label": True}, "unpaired_preference"),
        ({"text": "Once upon a time"}, "text"),
    ],
)
def test_the_rows_tell_the_kind(tmp_path: Path, row: dict[str, Any], kind: str) -> None:
    facts = inspect_rows(write(tmp_path, row, row), None, None, None)
    assert (facts.kind, facts.count, facts.is_measured) == (kind, 2, False)
    assert len(facts.lengths) == 2


def test_a_tokenizer_counts_the_tokens_with_the_template(tmp_path: Path, byte_tokenizer: Any) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    facts = inspect_rows(write(tmp_path, QA, QA, {"question": 3}), "instruction", byte_tokenizer, template)
    assert facts.is_measured
    assert facts.count == 3
    assert facts.lengths[0] == facts.percentile(100) > len(QA["question"] + QA["answer"])


def test_characters_outside_ascii_count_as_tokens(tmp_path: Path) -> None:
    chinese = inspect_rows(write(tmp_path, {"问题": "你" * 60, "答案": "好"}), None, None, None)
    assert chinese.percentile(50) >= 61


def test_rows_that_no_format_fits_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        inspect_rows(write(tmp_path, {"a": "Hi", "b": "Hello"}), None, None, None)
    assert caught.value.key == "data.format"


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ({"assistant": "b"}, "instruction"),
        ({"chosen": "b", "rejected": "c"}, "preference"),
        ({"assistant": "b", "label": "d"}, "unpaired_preference"),
    ],
)
def test_a_given_format_tells_the_kind(tmp_path: Path, columns: dict[str, str], kind: str) -> None:
    rows = write(tmp_path, {"a": "Hi", "b": ""}, {"a": "Hi", "b": "Hello", "c": "Go away", "d": True})
    spec = {"type": "columns", "user": "a", **columns}
    facts = inspect_rows(rows, None, None, None, spec)
    assert (facts.kind, facts.spec) == (kind, spec)


def test_rows_that_a_given_format_does_not_read_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        inspect_rows(write(tmp_path, {"a": "Hi"}), None, None, None, "alpaca")
