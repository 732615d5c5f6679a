"""Data sets: from files to samples, with books that close."""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xft.data import DataReport, InstructionData, PreparedData, SampleView, TextData, formats
from xft.data.report import split_stats
from xft.errors import ConfigError, DataError
from xft.reporting.data_summary import summarize_data
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Message, Row, Sample

FRAME = 21
"""Tokens of ChatML around a question and an answer, where each byte is a token."""


@pytest.fixture(scope="module")
def chatml(byte_tokenizer: Any) -> BoundTemplate:
    _BYTES[:] = [byte_tokenizer]
    return ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)


def chatml_text(question: str, answer: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


def qa(number: int, answer: str = "") -> Row:
    return {"instruction": f"q{number}", "output": answer or f"a{number}"}


def write(folder: Path, rows: list[Row], name: str = "rows.jsonl") -> str:
    file = folder / name
    file.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return str(file)


def prepare(data: InstructionData, template: BoundTemplate) -> PreparedData:
    return data.prepare(template.tokenizer, template)


_BYTES: list[Any] = []
"""The tokenizer of the module's template: one whose tokens are bytes."""


def texts(samples: Iterable[Sample], tokenizer: Any = None) -> list[str]:
    return [(tokenizer or _BYTES[0]).decode(each.input_ids) for each in samples]


def set_aside(report: DataReport) -> list[dict[str, Any]]:
    """Every row that was set aside, out of the files that hold them."""
    return [
        json.loads(line)
        for each in report.quarantine_files
        for line in each.read_text(encoding="utf-8").split("\n")
        if line
    ]


def assert_closed(report: DataReport, read: int) -> None:
    """Rows read are rows trained on, validated on and dropped."""
    assert report.rows_read == read
    assert report.rows_train + report.rows_val + sum(report.rows_dropped.values()) == read


# The way of a row


def test_rows_become_samples_in_the_order_of_the_files(tmp_path: Path, chatml: BoundTemplate) -> None:
    first = write(tmp_path, [qa(0), qa(1)], "a.jsonl")
    second = write(tmp_path, [qa(2)], "b.jsonl")
    prepared = prepare(InstructionData([second, first], val_split=None), chatml)
    assert texts(prepared.train) == [chatml_text(f"q{i}", f"a{i}") for i in (2, 0, 1)]
    assert len(prepared.val) == 0
    assert_closed(prepared.report, 3)


def test_format_may_be_any_function_of_a_row(tmp_path: Path, chatml: BoundTemplate) -> None:
    def mine(row: Row) -> list[Message]:
        return [Message("user", row["ask"]), Message("assistant", row["say"], is_target=True)]

    path = write(tmp_path, [{"ask": "x", "say": "y"}])
    prepared = prepare(InstructionData(path, format=mine, val_split=None), chatml)
    assert texts(prepared.train) == [chatml_text("x", "y")]


def test_more_rows_than_one_chunk_keep_their_order(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path, [qa(number) for number in range(2500)])
    prepared = prepare(InstructionData(path, val_split=None), chatml)
    assert texts(prepared.train) == [chatml_text(f"q{i}", f"a{i}") for i in range(2500)]


def test_raw_text_as_format_of_instructions_is_refused(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path, [{"text": "x"}, {"text": "y"}])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, format=formats.text), chatml)
    assert (caught.value.key, caught.value.got) == ("data.format", "str")


# The split


def split(path: str, template: BoundTemplate, **arguments: Any) -> tuple[list[str], list[str]]:
    prepared = prepare(InstructionData(path, **arguments), template)
    assert prepared.report.rows_train == len(prepared.train)
    assert prepared.report.rows_val == len(prepared.val)
    return texts(prepared.train), texts(prepared.val)


@pytest.mark.parametrize(
    ("val", "rows", "expected"),
    # A share is kept on average: each row decides for itself. The bounds are four standard deviations.
    [
        (0.05, 2000, (61, 139)),
        (0.25, 2000, (423, 577)),
        (7, 100, (7, 7)),
        (0.05, 2, (1, 1)),
        (1, 2, (1, 1)),
    ],
)
def test_validation_is_the_share_or_number_asked_for_and_at_least_one(
    tmp_path: Path, chatml: BoundTemplate, val: float, rows: int, expected: tuple[int, int]
) -> None:
    written = [qa(number) for number in range(rows)]
    train, held = split(write(tmp_path, written), chatml, val_split=val)
    assert expected[0] <= len(held) <= expected[1]
    assert Counter(train + held) == Counter(chatml_text(f"q{i}", f"a{i}") for i in range(rows))


def test_validation_is_on_by_default(tmp_path: Path, chatml: BoundTemplate) -> None:
    train, held = split(write(tmp_path, [qa(number) for number in range(100)]), chatml)
    assert len(train) + len(held) == 100
    assert 1 <= len(held) <= 14


def test_no_validation_trains_on_every_row(tmp_path: Path, chatml: BoundTemplate) -> None:
    train, held = split(write(tmp_path, [qa(0)]), chatml, val_split=None)
    assert (len(train), held) == (1, [])


def test_split_is_the_same_each_time_and_another_for_another_seed(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    path = write(tmp_path, [qa(number) for number in range(60)])
    first = split(path, chatml, val_split=0.2)
    assert split(path, chatml, val_split=0.2) == first
    assert set(split(path, chatml, val_split=0.2, split_seed=1)[1]) != set(first[1])


def test_split_does_not_depend_on_the_order_of_rows_or_keys(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(number) for number in range(60)]
    shuffled = [dict(reversed(row.items())) for row in rows]
    random.Random(0).shuffle(shuffled)
    _, held = split(write(tmp_path, rows), chatml, val_split=0.2)
    _, held_of_shuffled = split(write(tmp_path, shuffled, "b.jsonl"), chatml, val_split=0.2)
    assert set(held) == set(held_of_shuffled)


def test_rows_held_out_stay_so_when_rows_are_added(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(number) for number in range(60)]
    train, held = split(write(tmp_path, rows), chatml, val_split=0.2)
    more = [*rows[30:], *(qa(number) for number in range(60, 600)), *rows[:30]]
    train_of_more, held_of_more = split(write(tmp_path, more, "b.jsonl"), chatml, val_split=0.2)
    assert set(held) <= set(held_of_more)
    assert set(train) <= set(train_of_more)


def test_duplicates_stay_together_so_that_the_splits_are_disjoint(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    rows = [qa(number % 20) for number in range(100)]
    train, held = split(write(tmp_path, rows), chatml, val_split=10)
    assert not set(train) & set(held)
    assert set(Counter(train).values()) == set(Counter(held).values()) == {5}
    assert len(held) == 10


def test_splits_of_real_rows_are_disjoint_by_content(shared: Path, smollm2_tokenizer: Any) -> None:
    template = ChatTemplate().bind(smollm2_tokenizer)
    data = InstructionData(str(shared / "data" / "alpaca_en_demo.json"), max_length=4096)
    prepared = data.prepare(smollm2_tokenizer, template)
    assert len(prepared.train) + len(prepared.val) == 999
    assert 25 <= len(prepared.val) <= 75
    train, held = texts(prepared.train, smollm2_tokenizer), texts(prepared.val, smollm2_tokenizer)
    assert not set(train) & set(held)


def test_validation_file_is_read_encoded_and_counted(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path, [qa(0), qa(1), qa(2)])
    val = write(tmp_path, [qa(7), qa(8)], "val.jsonl")
    prepared = prepare(InstructionData(path, val_split=val), chatml)
    assert texts(prepared.train) == [chatml_text(f"q{i}", f"a{i}") for i in (0, 1, 2)]
    assert texts(prepared.val) == [chatml_text(f"q{i}", f"a{i}") for i in (7, 8)]
    assert (prepared.report.rows_train, prepared.report.rows_val) == (3, 2)
    assert_closed(prepared.report, 5)


def test_one_row_with_validation_is_refused_with_the_way_out(tmp_path: Path, chatml: BoundTemplate) -> None:
    with pytest.raises(DataError, match=r"data\.val_split=None") as caught:
        prepare(InstructionData(write(tmp_path, [qa(0)])), chatml)
    assert (caught.value.key, caught.value.got) == ("data.val_split", 0.05)


def test_validation_that_leaves_nothing_to_train_on_is_refused(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    path = write(tmp_path, [qa(number) for number in range(5)])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, val_split=5), chatml)
    assert (caught.value.key, caught.value.got) == ("data.val_split", 5)


def test_rows_that_are_all_the_same_cannot_be_split(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path, [qa(0)] * 10)
    with pytest.raises(DataError, match="got 10 rows, 1 of them") as caught:
        prepare(InstructionData(path), chatml)
    assert caught.value.key == "data.val_split"


@pytest.mark.parametrize("val", [-1, -0.1, 1.0, 1.5])
def test_validation_out_of_range_is_refused(val: float) -> None:
    with pytest.raises(ConfigError) as caught:
        InstructionData("rows.jsonl", val_split=val)
    assert (caught.value.key, caught.value.got) == ("data.val_split", val)


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        InstructionData("rows.jsonl", max_length=7)
    assert (caught.value.key, caught.value.got) == ("data.max_length", 7)
    with pytest.raises(ConfigError) as caught:
        TextData([])
    assert (caught.value.key, caught.value.got) == ("data.path", [])


def test_locate_checks_every_source_before_reading(tmp_path: Path) -> None:
    good = write(tmp_path, [qa(0)])
    InstructionData(good).check_sources()
    for arguments in ({"path": [good, f"{good}x.json"]}, {"path": good, "val_split": f"{good}x.json"}):
        with pytest.raises(ConfigError, match=r"x\.json does not exist"):
            InstructionData(**arguments).check_sources()  # type: ignore[arg-type]


# Rows that do not fit

BAD_ROWS: list[tuple[Row, str]] = [
    ({"instruction": "q"}, "field output: is missing"),
    ({"instruction": "q", "output": 3}, "field output: got 3"),
    ({"instruction": "q", "output": ""}, "field turns[2]: an answer is empty"),
    ({"instruction": "q", "output": " \n\t"}, "field turns[2]: an answer is empty"),
]


@pytest.mark.parametrize(("bad", "said"), BAD_ROWS)
def test_row_that_does_not_fit_is_an_error_with_its_line(
    tmp_path: Path, chatml: BoundTemplate, bad: Row, said: str
) -> None:
    path = write(tmp_path, [qa(0), qa(1), bad])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path), chatml)
    assert str(caught.value).startswith(f"{path}:3: {said}")
    assert "data.on_invalid='quarantine'" in str(caught.value)


@pytest.mark.parametrize(("bad", "said"), BAD_ROWS)
def test_row_that_does_not_fit_is_set_aside_where_asked_for(
    tmp_path: Path, chatml: BoundTemplate, bad: Row, said: str
) -> None:
    path = write(tmp_path, [qa(0), bad, qa(1), qa(2)])
    prepared = prepare(InstructionData(path, val_split=None, on_invalid="quarantine"), chatml)
    assert texts(prepared.train) == [chatml_text(f"q{i}", f"a{i}") for i in (0, 1, 2)]
    [quarantined] = set_aside(prepared.report)
    assert (quarantined["file"], quarantined["line"], quarantined["row"]) == (path, 2, bad)
    assert said in quarantined["reason"]
    assert sum(prepared.report.rows_dropped.values()) == 1
    assert_closed(prepared.report, 4)


def test_row_of_a_json_list_that_is_set_aside_can_be_found_again(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    file = tmp_path / "rows.json"
    bad = {"instruction": "q"}
    file.write_text(json.dumps([qa(0), qa(1), bad, qa(2)]), encoding="utf-8")
    report = prepare(InstructionData(str(file), val_split=None, on_invalid="quarantine"), chatml).report
    assert bad in set_aside(report)[0].values()
    [reported] = report.to_dict()["quarantined"]
    assert reported["file"] == str(file)
    assert 3 in reported.values(), "the report says which row it was"


def test_columns_that_no_format_reads_are_reported(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(number) | {"topic": "x", "note": "y" if number else ""} for number in range(3)]
    prepared = prepare(InstructionData(write(tmp_path, rows), val_split=None, group_by="topic"), chatml)
    assert prepared.report.to_dict()["ignored_columns"] == {"note": 2}
    assert "'note' (2 rows)" in summarize_data(prepared).ignored_columns


@pytest.mark.parametrize("column", ["image", "images", "videos", "audios"])
def test_row_with_an_image_that_the_format_leaves_out_raises(
    tmp_path: Path, chatml: BoundTemplate, column: str
) -> None:
    row = {"instruction": "<image> What is this?", "output": "A cat."}
    path = write(tmp_path, [row | {column: ["cat.png"]}, row | {column: []}, row | {column: None}])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path), chatml)
    assert caught.value.key == column
    assert "data.on_invalid='quarantine'" in caught.value.fix
    report = prepare(InstructionData(path, val_split=None, on_invalid="quarantine"), chatml).report
    assert report.rows_train == 2


def test_image_column_that_the_format_reads_as_text_is_accepted(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    path = write(tmp_path, [{"image": f"a cat {number}", "output": "A cat."} for number in range(2)])
    read = partial(formats.columns, user="{image}", assistant="output")
    assert prepare(InstructionData(path, format=read, val_split=None), chatml).report.rows_train == 2


def openai_row(*turns: tuple[str, str, int]) -> Row:
    return {"messages": [{"role": r, "content": c, "weight": w} for r, c, w in turns]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (openai_row(("user", "Hi", 1), ("assistant", "Hello", 0)), "no target answer"),
        (openai_row(("system", "Be brief.", 1), ("user", "Hi", 1)), "no target answer"),
        (openai_row(("user", "Hi", 1), ("user", "Hi", 1), ("assistant", "a", 1)), "two turns of the user"),
        (
            openai_row(("user", "Hi", 1), ("assistant", "a", 1), ("assistant", "b", 1)),
            "two turns of the assistant",
        ),
    ],
)
def test_conversation_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, chatml: BoundTemplate, row: Row, said: str
) -> None:
    path = write(tmp_path, [row])
    with pytest.raises(DataError, match=f":1: .*{said}"):
        prepare(InstructionData(path, format=formats.openai), chatml)


def test_conversation_that_the_template_refuses_is_set_aside(tmp_path: Path, byte_tokenizer: Any) -> None:
    source = "{% if messages[0]['content'] == 'q1' %}{{ raise_exception('not q1') }}{% endif %}"
    template = ChatTemplate(source + SOURCES["chatml"]).bind(byte_tokenizer)
    path = write(tmp_path, [qa(number) for number in range(3)])
    prepared = prepare(InstructionData(path, val_split=None, on_invalid="quarantine"), template)
    assert texts(prepared.train) == [chatml_text("q0", "a0"), chatml_text("q2", "a2")]
    [quarantined] = prepared.report.quarantined
    assert quarantined["line"] == 2
    assert "not q1" in quarantined["reason"]


def test_row_with_a_lone_surrogate_is_set_aside(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path, [qa(0), qa(1, "\ud800"), qa(2)])
    prepared = prepare(InstructionData(path, val_split=None, on_invalid="quarantine"), chatml)
    assert len(prepared.train) == 2
    assert [each["line"] for each in prepared.report.quarantined] == [2]


def test_file_of_which_no_row_fits_is_refused_with_the_reasons(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    path = write(tmp_path, [{"x": 1}, {"y": 2}])
    with pytest.raises(DataError, match=r"no row is left of 2 \(2 does not fit the format\)"):
        prepare(InstructionData(path, on_invalid="quarantine"), chatml)


# Rows that are too long


def long_and_short(folder: Path) -> str:
    """9 rows of 31 tokens and one of 60."""
    rows = [{"instruction": f"q{number}", "output": "12345678"} for number in range(9)]
    return write(folder, [*rows, {"instruction": "q9", "output": "x" * 37}])


@pytest.mark.parametrize(("max_length", "dropped"), [(60, 0), (59, 1), (31, 1)])
def test_longer_rows_are_dropped_and_counted(
    tmp_path: Path, chatml: BoundTemplate, max_length: int, dropped: int
) -> None:
    data = InstructionData(long_and_short(tmp_path), max_length=max_length, val_split=None)
    prepared = prepare(data, chatml)
    assert len(prepared.train) == 10 - dropped
    assert prepared.report.rows_dropped.total() == dropped
    assert all("length" in reason for reason in prepared.report.rows_dropped)
    assert sorted(prepared.report.lengths.tolist()) == [31] * 9 + [60]
    assert_closed(prepared.report, 10)


def test_longer_rows_are_cut_and_counted(tmp_path: Path, chatml: BoundTemplate) -> None:
    data = InstructionData(long_and_short(tmp_path), max_length=40, on_overlong="truncate", val_split=None)
    prepared = prepare(data, chatml)
    cut = prepared.train[-1]
    assert texts([cut]) == [chatml_text("q9", "x" * 17)]
    assert len(cut) == 40
    trained = cut.labels[cut.labels != IGNORE_INDEX]
    assert chatml.tokenizer.decode(trained) == "x" * 17 + "<|im_end|>"
    assert prepared.report.rows_truncated == 1
    assert prepared.report.rows_dropped.total() == 0
    assert_closed(prepared.report, 10)


def test_longer_row_is_an_error_where_asked_for(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = long_and_short(tmp_path)
    with pytest.raises(DataError, match=r"rows\.jsonl:10: got 60 tokens.*data\.max_length=40"):
        prepare(InstructionData(path, max_length=40, on_overlong="error"), chatml)


@pytest.mark.parametrize("on_overlong", ["drop", "truncate"])
def test_losing_too_many_rows_is_refused_with_their_lengths(
    tmp_path: Path, chatml: BoundTemplate, on_overlong: Any
) -> None:
    # 21 rows of 30, 31, ... 50 tokens: the median is 40, and 19 of 20 steps up stands 49.
    rows = [{"instruction": "q", "output": "x" * (8 + number)} for number in range(21)]
    path = write(tmp_path, rows)
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, max_length=47, on_overlong=on_overlong), chatml)
    message = str(caught.value)
    assert "3 of 21 rows" in message
    assert "p50 = 40, p95 = 49, max = 50" in message
    assert "data.max_length=47" in message
    assert "data.max_overlong_fraction" in message


def test_losing_as_many_rows_as_allowed_is_taken(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [{"instruction": "q", "output": "x" * (8 + number)} for number in range(20)]
    path = write(tmp_path, rows)
    prepared = prepare(
        InstructionData(path, max_length=47, max_overlong_fraction=0.1, val_split=None), chatml
    )
    assert len(prepared.train) == 18


@pytest.mark.parametrize("val", [None, 0.5, "file"])
def test_losing_every_row_is_refused_even_where_loss_is_allowed(
    tmp_path: Path, chatml: BoundTemplate, val: Any
) -> None:
    path = write(tmp_path, [{"instruction": "q", "output": "x" * 50}] * 3)
    if val == "file":
        val = write(tmp_path, [qa(0)], "val.jsonl")
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, max_length=40, max_overlong_fraction=1.0, val_split=val), chatml)
    assert caught.value.key == "data.path"


# Raw text


def test_documents_are_trained_whole(tmp_path: Path, byte_tokenizer: Any) -> None:
    documents = ["x" * 7, "y" * 40]
    path = write(tmp_path, [{"text": each} for each in documents])
    prepared = TextData(path, max_length=16, val_split=None).prepare(byte_tokenizer, None)
    assert [len(each) for each in prepared.train] == [9, 16, 16, 12]
    assert sum(each.num_targets for each in prepared.train) == 7 + 1 + 40 + 1
    assert prepared.report.rows_train == 2
    assert_closed(prepared.report, 2)


@pytest.mark.parametrize(
    "row", [{"text": ""}, {"text": " \n"}, {"text": None}, {"content": "x"}, {"text": 1}]
)
def test_document_that_is_no_text_is_refused_or_set_aside(
    tmp_path: Path, byte_tokenizer: Any, row: Row
) -> None:
    path = write(tmp_path, [{"text": "x"}, row, {"text": "y"}])
    with pytest.raises(DataError, match=r"rows\.jsonl:2: .*expected (non-empty )?text"):
        TextData(path).prepare(byte_tokenizer, None)
    prepared = TextData(path, val_split=None, on_invalid="quarantine").prepare(byte_tokenizer, None)
    assert len(prepared.train) == 2
    assert [each["row"] for each in set_aside(prepared.report)] == [row]
    assert_closed(prepared.report, 3)


def test_document_with_a_lone_surrogate_is_set_aside(tmp_path: Path, byte_tokenizer: Any) -> None:
    path = write(tmp_path, [{"text": "x"}, {"text": "\ud800"}, {"text": "y"}])
    prepared = TextData(path, val_split=None, on_invalid="quarantine").prepare(byte_tokenizer, None)
    assert [each["line"] for each in prepared.report.quarantined] == [2]


def test_chunks_of_a_document_are_all_trained_on_or_all_validated_on(
    tmp_path: Path, byte_tokenizer: Any
) -> None:
    letters = "abcdefghij"
    path = write(tmp_path, [{"text": letter * 40} for letter in letters])
    prepared = TextData(path, max_length=16, val_split=3).prepare(byte_tokenizer, None)

    def letters_of(samples: Iterable[Sample]) -> set[str]:
        return {letter for each in samples for letter in byte_tokenizer.decode(each.input_ids)} & {*letters}

    assert (len(letters_of(prepared.train)), len(letters_of(prepared.val))) == (7, 3)
    assert (len(prepared.train), len(prepared.val)) == (7 * 3, 3 * 3)


def test_real_documents_are_trained_token_by_token(shared: Path, smollm2_tokenizer: Any) -> None:
    file = shared / "data" / "c4_demo.jsonl"
    documents = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    prepared = TextData(str(file), max_length=256, val_split=0.1).prepare(smollm2_tokenizer, None)
    tokens = sum(len(ids) for ids in smollm2_tokenizer(documents)["input_ids"])
    samples = [*prepared.train, *prepared.val]
    assert sum(each.num_targets for each in samples) == tokens + len(documents)
    assert max(len(each) for each in samples) == 256
    assert prepared.report.rows_train + prepared.report.rows_val == 300
    assert 10 <= prepared.report.rows_val <= 51


# The ledger


def test_books_of_real_rows_close_and_count_every_token(shared: Path, smollm2_tokenizer: Any) -> None:
    file = shared / "data" / "alpaca_en_demo.json"
    rows = json.loads(file.read_text(encoding="utf-8"))
    template = ChatTemplate().bind(smollm2_tokenizer)
    data = InstructionData(str(file), max_length=256, max_overlong_fraction=1.0, val_split=0.1)
    prepared = data.prepare(smollm2_tokenizer, template)
    references = [
        smollm2_tokenizer.apply_chat_template(
            [
                {"role": "user", "content": "\n".join(filter(None, [row["instruction"], row["input"]]))},
                {"role": "assistant", "content": row["output"]},
            ],
            tokenize=True,
            return_dict=False,
        )
        for row in rows
    ]
    lengths = [len(each) for each in references]
    assert sorted(prepared.report.lengths.tolist()) == sorted(lengths)
    kept = [length for length in lengths if length <= 256]
    assert 0 < prepared.report.rows_dropped.total() == len(rows) - len(kept)
    assert_closed(prepared.report, len(rows))
    splits = prepared.report.splits
    assert splits["train"]["tokens"] + splits["val"]["tokens"] == sum(kept)
    assert splits["train"]["samples"] == len(prepared.train)
    assert splits["val"]["samples"] == len(prepared.val) == len(kept) - len(prepared.train)


def test_report_is_plain_data_without_the_rows_set_aside(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path, [qa(0), qa(1), {"secret": "row"}])
    report = prepare(InstructionData(path, on_invalid="quarantine"), chatml).report.to_dict()
    again = json.loads(json.dumps(report))
    assert again == report
    assert (again["rows_read"], again["rows_train"], again["rows_val"]) == (3, 1, 1)
    assert sum(again["rows_dropped"].values()) == 1
    assert [each["line"] for each in again["quarantined"]] == [3]
    assert "row" not in again["quarantined"][0]


def test_books_that_do_not_close_stop_the_run() -> None:
    with pytest.raises(AssertionError, match="3 rows read, 2 kept, 0 dropped"):
        DataReport(rows_read=3, rows_train=1, rows_val=1).check_balance(SampleView([]), SampleView([]))


def test_figures_of_a_split_by_hand(tmp_path: Path, chatml: BoundTemplate) -> None:
    # 23, 24 and 30 tokens, of which answer and end of turn are 2, 3 and 9.
    rows = [{"instruction": "q", "output": each} for each in ("a", "bc", "12345678")]
    figures = split_stats(prepare(InstructionData(write(tmp_path, rows), val_split=None), chatml).train)
    assert (figures["samples"], figures["tokens"], figures["target_tokens"]) == (3, 77, 14)
    assert figures["target_share"] == round(14 / 77, 4)
    assert (figures["length"]["p50"], figures["length"]["p95"], figures["length"]["max"]) == (24, 29, 30)
    assert (figures["target_length"]["p50"], figures["target_length"]["max"]) == (3, 9)
    assert sum(bar["count"] for bar in figures["length"]["histogram"]) == 3


def test_figures_of_an_empty_split_are_zero() -> None:
    figures = split_stats(SampleView([]))
    assert (figures["samples"], figures["tokens"], figures["target_tokens"]) == (0, 0, 0)
    assert figures["target_share"] == 0.0
    assert DataReport().length_summary() == "no rows"


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
def test_any_rows_are_kept_or_dropped_and_kept_ones_decode_to_their_text(
    byte_tokenizer: Any, rows: list[Row], max_length: int
) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)

    def length(row: Row) -> int:
        return FRAME + len(row["instruction"].encode()) + len(row["output"].encode())

    fitting = [row for row in rows if row["output"] is not None and row["output"].strip()]
    kept = [row for row in fitting if length(row) <= max_length]
    with TemporaryDirectory() as folder:
        data = InstructionData(
            write(Path(folder), rows),
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
    assert_closed(prepared.report, len(rows))
    assert len(set_aside(prepared.report)) == len(rows) - len(fitting)
    assert prepared.report.rows_dropped.total() == len(rows) - len(kept)
    decoded = [byte_tokenizer.decode(each.input_ids) for each in prepared.train]
    assert decoded == [chatml_text(row["instruction"], row["output"]) for row in kept]
    trained = [byte_tokenizer.decode(each.labels[each.labels != IGNORE_INDEX]) for each in prepared.train]
    assert trained == [f"{row['output']}<|im_end|>" for row in kept]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    keys=st.lists(st.integers(0, 6), min_size=2, max_size=20),
    val=st.one_of(st.floats(0.01, 0.9), st.integers(1, 6)),
    seed=st.integers(0, 9),
)
def test_any_split_is_disjoint_and_loses_no_row(
    byte_tokenizer: Any, keys: list[int], val: float, seed: int
) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    with TemporaryDirectory() as folder:
        data = InstructionData(
            write(Path(folder), [qa(key) for key in keys]), val_split=val, split_seed=seed
        )
        refused = ""
        try:
            prepared = data.prepare(byte_tokenizer, template)
        except DataError as error:
            refused = str(error)
    if refused:
        assert "data.val_split" in refused
        return
    train, held = texts(prepared.train), texts(prepared.val)
    assert train
    assert held
    assert not set(train) & set(held)
    assert Counter(train + held) == Counter(chatml_text(f"q{key}", f"a{key}") for key in keys)


def test_factory_of_tokenizers_gives_new_ones(make_byte_tokenizer: Callable[..., Any]) -> None:
    """The fixtures of this file lean on it: a tokenizer that a test changes is its own."""
    assert make_byte_tokenizer() is not make_byte_tokenizer()
