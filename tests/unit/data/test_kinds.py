"""Kinds of datasets: from files to samples."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from helpers.rows import (
    FRAME,
    assert_balanced,
    chatml_text,
    decode,
    prepare,
    qa,
    quarantined_rows,
    write_rows,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xft.data import (
    InstructionData,
    TextData,
    formats,
)
from xft.data.formats import alpaca
from xft.errors import DataError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Message, Row, Sample


def test_prepare_keeps_the_order_of_files_and_rows(tmp_path: Path, chatml: BoundTemplate) -> None:
    first = write_rows(tmp_path, [qa(0), qa(1)], "a.jsonl")
    second = write_rows(tmp_path, [qa(2)], "b.jsonl")
    prepared = prepare(InstructionData([second, first], val_split=None), chatml)
    assert decode(prepared.train, chatml.tokenizer) == [chatml_text(f"q{i}", f"a{i}") for i in (2, 0, 1)]
    assert len(prepared.val) == 0
    assert_balanced(prepared.report, 3)


def test_format_may_be_any_function_of_a_row(tmp_path: Path, chatml: BoundTemplate) -> None:
    def mine(row: Row) -> list[Message]:
        return [Message("user", row["ask"]), Message("assistant", row["say"], is_target=True)]

    path = write_rows(tmp_path, [{"ask": "x", "say": "y"}])
    prepared = prepare(InstructionData(path, format=mine, val_split=None), chatml)
    assert decode(prepared.train, chatml.tokenizer) == [chatml_text("x", "y")]


def test_prepare_keeps_the_order_across_chunks(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [qa(number) for number in range(2500)])
    prepared = prepare(InstructionData(path, val_split=None), chatml)
    assert decode(prepared.train, chatml.tokenizer) == [chatml_text(f"q{i}", f"a{i}") for i in range(2500)]


def test_instruction_data_with_a_text_format_raises(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [{"text": "x"}, {"text": "y"}])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, format=formats.text), chatml)
    assert (caught.value.key, caught.value.got) == ("data.format", "str")


# Rows that are too long


def long_and_short(folder: Path) -> str:
    """9 rows of 31 tokens and one of 60."""
    rows = [{"instruction": f"q{number}", "output": "12345678"} for number in range(9)]
    return write_rows(folder, [*rows, {"instruction": "q9", "output": "x" * 37}])


@pytest.mark.parametrize(("max_length", "dropped"), [(60, 0), (59, 1), (31, 1)])
def test_on_overlong_drop_counts_the_rows(
    tmp_path: Path, chatml: BoundTemplate, max_length: int, dropped: int
) -> None:
    data = InstructionData(long_and_short(tmp_path), max_length=max_length, val_split=None)
    prepared = prepare(data, chatml)
    assert len(prepared.train) == 10 - dropped
    assert prepared.report.rows_dropped.total() == dropped
    assert all("length" in reason for reason in prepared.report.rows_dropped)
    assert sorted(prepared.report.lengths.tolist()) == [31] * 9 + [60]
    assert_balanced(prepared.report, 10)


def test_on_overlong_truncate_counts_the_rows(tmp_path: Path, chatml: BoundTemplate) -> None:
    data = InstructionData(long_and_short(tmp_path), max_length=40, on_overlong="truncate", val_split=None)
    prepared = prepare(data, chatml)
    cut = prepared.train[-1]
    assert decode([cut], chatml.tokenizer) == [chatml_text("q9", "x" * 17)]
    assert len(cut) == 40
    trained = cut.labels[cut.labels != IGNORE_INDEX]
    assert chatml.tokenizer.decode(trained) == "x" * 17 + "<|im_end|>"
    assert prepared.report.rows_truncated == 1
    assert prepared.report.rows_dropped.total() == 0
    assert_balanced(prepared.report, 10)


def test_on_overlong_error_raises_with_the_line(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = long_and_short(tmp_path)
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, max_length=40, on_overlong="error"), chatml)
    assert (caught.value.key, caught.value.got) == ("data.max_length", 60)
    assert str(caught.value).startswith(f"{path}:10: ")


# Raw text


def test_text_data_has_every_token_as_a_target(tmp_path: Path, byte_tokenizer: Any) -> None:
    documents = ["x" * 7, "y" * 40]
    path = write_rows(tmp_path, [{"text": document} for document in documents])
    prepared = TextData(path, max_length=16, val_split=None).prepare(byte_tokenizer, None)
    assert [len(sample) for sample in prepared.train] == [9, 16, 16, 12]
    assert sum(sample.num_targets for sample in prepared.train) == 7 + 1 + 40 + 1
    assert prepared.report.rows_train == 2
    assert_balanced(prepared.report, 2)


@pytest.mark.parametrize(
    "row", [{"text": ""}, {"text": " \n"}, {"text": None}, {"content": "x"}, {"text": 1}]
)
def test_text_data_invalid_text_raises_or_is_quarantined(
    tmp_path: Path, byte_tokenizer: Any, row: Row
) -> None:
    path = write_rows(tmp_path, [{"text": "x"}, row, {"text": "y"}])
    with pytest.raises(DataError) as caught:
        TextData(path).prepare(byte_tokenizer, None)
    assert caught.value.key == "text"
    assert str(caught.value).startswith(f"{path}:2: ")
    prepared = TextData(path, val_split=None, on_invalid="quarantine").prepare(byte_tokenizer, None)
    assert len(prepared.train) == 2
    assert [row["row"] for row in quarantined_rows(prepared.report)] == [row]
    assert_balanced(prepared.report, 3)


def test_text_data_with_a_lone_surrogate_is_quarantined(tmp_path: Path, byte_tokenizer: Any) -> None:
    path = write_rows(tmp_path, [{"text": "x"}, {"text": "\ud800"}, {"text": "y"}])
    prepared = TextData(path, val_split=None, on_invalid="quarantine").prepare(byte_tokenizer, None)
    assert [row["line"] for row in prepared.report.quarantined] == [2]


def test_text_data_keeps_the_chunks_of_a_document_in_one_split(tmp_path: Path, byte_tokenizer: Any) -> None:
    letters = "abcdefghij"
    path = write_rows(tmp_path, [{"text": letter * 40} for letter in letters])
    prepared = TextData(path, max_length=16, val_split=3).prepare(byte_tokenizer, None)

    def letters_of(samples: Iterable[Sample]) -> set[str]:
        return {letter for sample in samples for letter in byte_tokenizer.decode(sample.input_ids)} & {
            *letters
        }

    assert (len(letters_of(prepared.train)), len(letters_of(prepared.val))) == (7, 3)
    assert (len(prepared.train), len(prepared.val)) == (7 * 3, 3 * 3)


def test_text_data_of_real_documents_has_every_token_as_a_target(
    shared: Path, smollm2_tokenizer: Any
) -> None:
    file = shared / "data" / "c4_demo.jsonl"
    documents = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    prepared = TextData(str(file), max_length=256, val_split=0.1).prepare(smollm2_tokenizer, None)
    tokens = sum(len(ids) for ids in smollm2_tokenizer(documents)["input_ids"])
    samples = [*prepared.train, *prepared.val]
    assert sum(sample.num_targets for sample in samples) == tokens + len(documents)
    assert max(len(sample) for sample in samples) == 256
    assert prepared.report.rows_train + prepared.report.rows_val == 300
    assert 10 <= prepared.report.rows_val <= 51


# Any rows

ROWS = st.lists(
    st.fixed_dictionaries(
        {"instruction": st.text(max_size=12), "output": st.one_of(st.none(), st.text(max_size=24))}
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, max_length=st.integers(24, 64))
def test_any_rows_are_dropped_or_decode_to_their_text(
    byte_tokenizer: Any, rows: list[Row], max_length: int
) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)

    def length(row: Row) -> int:
        return FRAME + len(row["instruction"].encode()) + len(row["output"].encode())

    fitting = [row for row in rows if row["output"] is not None and row["output"].strip()]
    kept = [row for row in fitting if length(row) <= max_length]
    with TemporaryDirectory() as folder:
        data = InstructionData(
            write_rows(Path(folder), rows),
            format=alpaca,
            max_length=max_length,
            max_overlong_fraction=1.0,
            val_split=None,
            on_invalid="quarantine",
        )
        if not kept:
            with pytest.raises(DataError):
                data.prepare(byte_tokenizer, template)
            return
        prepared = data.prepare(byte_tokenizer, template)
    assert_balanced(prepared.report, len(rows))
    assert len(quarantined_rows(prepared.report)) == len(rows) - len(fitting)
    assert prepared.report.rows_dropped.total() == len(rows) - len(kept)
    decoded = [byte_tokenizer.decode(sample.input_ids) for sample in prepared.train]
    assert decoded == [chatml_text(row["instruction"], row["output"]) for row in kept]
    trained = [
        byte_tokenizer.decode(sample.labels[sample.labels != IGNORE_INDEX]) for sample in prepared.train
    ]
    assert trained == [f"{row['output']}<|im_end|>" for row in kept]


def test_make_byte_tokenizer_returns_a_new_tokenizer(make_byte_tokenizer: Callable[..., Any]) -> None:
    """A test may change its tokenizer."""
    assert make_byte_tokenizer() is not make_byte_tokenizer()
