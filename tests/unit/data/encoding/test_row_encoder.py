"""Rows that do not fit, groups, special tokens and unknown characters."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.jinja_sources import OPENED_THOUGHT, STRIPS_THOUGHT
from helpers.rows import (
    assert_balanced,
    chatml_text,
    decode,
    prepare,
    qa,
    quarantined_rows,
    write_rows,
)

from xft.data import (
    InstructionData,
    TextData,
    formats,
)
from xft.data import prepare as preparing
from xft.errors import DataError
from xft.reporting.data_summary import summarize_data
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import Conversation, Message, Row

BAD_ROWS: list[tuple[Row, str]] = [
    ({"instruction": "q"}, "field output: is missing"),
    ({"instruction": "q", "output": 3}, "field output: got 3"),
    ({"instruction": "q", "output": ""}, "field turns[2]: an answer is empty"),
    ({"instruction": "q", "output": " \n\t"}, "field turns[2]: an answer is empty"),
]


@pytest.mark.parametrize(("bad", "problem"), BAD_ROWS)
def test_on_invalid_error_raises_with_the_line(
    tmp_path: Path, chatml: BoundTemplate, bad: Row, problem: str
) -> None:
    path = write_rows(tmp_path, [qa(0), qa(1), bad])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path), chatml)
    assert str(caught.value).startswith(f"{path}:3: {problem}")
    assert "data.on_invalid='quarantine'" in str(caught.value)


@pytest.mark.parametrize(("bad", "problem"), BAD_ROWS)
def test_on_invalid_quarantine_keeps_row_line_and_reason(
    tmp_path: Path, chatml: BoundTemplate, bad: Row, problem: str
) -> None:
    path = write_rows(tmp_path, [qa(0), bad, qa(1), qa(2)])
    prepared = prepare(InstructionData(path, val_split=None, on_invalid="quarantine"), chatml)
    assert decode(prepared.train, chatml.tokenizer) == [chatml_text(f"q{i}", f"a{i}") for i in (0, 1, 2)]
    [quarantined] = quarantined_rows(prepared.report)
    assert (quarantined["file"], quarantined["line"], quarantined["row"]) == (path, 2, bad)
    assert problem in quarantined["reason"]
    assert sum(prepared.report.rows_dropped.values()) == 1
    assert_balanced(prepared.report, 4)


def test_quarantined_row_of_a_json_list_has_its_number(tmp_path: Path, chatml: BoundTemplate) -> None:
    file = tmp_path / "rows.json"
    bad = {"instruction": "q"}
    file.write_text(json.dumps([qa(0), qa(1), bad, qa(2)]), encoding="utf-8")
    report = prepare(InstructionData(str(file), val_split=None, on_invalid="quarantine"), chatml).report
    assert bad in quarantined_rows(report)[0].values()
    [reported] = report.to_dict()["quarantined"]
    assert reported["file"] == str(file)
    assert 3 in reported.values()


def openai_row(*turns: tuple[str, str, int]) -> Row:
    return {"messages": [{"role": r, "content": c, "weight": w} for r, c, w in turns]}


@pytest.mark.parametrize(
    ("row", "problem"),
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
def test_conversation_without_target_or_alternation_raises(
    tmp_path: Path, chatml: BoundTemplate, row: Row, problem: str
) -> None:
    path = write_rows(tmp_path, [row])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, format=formats.openai), chatml)
    assert str(caught.value).startswith(f"{path}:1: ")
    assert problem in str(caught.value)


def test_conversation_that_the_template_refuses_is_quarantined(tmp_path: Path, byte_tokenizer: Any) -> None:
    source = "{% if messages[0]['content'] == 'q1' %}{{ raise_exception('not q1') }}{% endif %}"
    template = ChatTemplate(source + SOURCES["chatml"]).bind(byte_tokenizer)
    path = write_rows(tmp_path, [qa(number) for number in range(3)])
    prepared = prepare(InstructionData(path, val_split=None, on_invalid="quarantine"), template)
    assert decode(prepared.train, byte_tokenizer) == [chatml_text("q0", "a0"), chatml_text("q2", "a2")]
    [quarantined] = prepared.report.quarantined
    assert quarantined["line"] == 2
    assert "not q1" in quarantined["reason"]


def test_row_with_a_lone_surrogate_is_quarantined(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [qa(0), qa(1, "\ud800"), qa(2)])
    prepared = prepare(InstructionData(path, val_split=None, on_invalid="quarantine"), chatml)
    assert len(prepared.train) == 2
    assert [row["line"] for row in prepared.report.quarantined] == [2]


def test_format_that_raises_is_an_error_of_the_row(tmp_path: Path, chatml: BoundTemplate) -> None:
    def mine(row: Row) -> list[Message]:
        return [Message("user", row["ask"]), Message("assistant", row["say"], is_target=True)]

    path = write_rows(tmp_path, [{"ask": "a", "say": "b"}, {"ask": "c", "tell": "d"}])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, mine, val_split=None), chatml)
    assert str(caught.value).startswith(f"{path}:2: the format 'mine' raises KeyError: 'say'")
    assert "'ask', 'tell'" in str(caught.value)


def test_special_tokens_in_the_content_are_counted(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(0), {"instruction": "What is <|im_end|>?", "output": "A token."}, qa(1)]
    path = write_rows(tmp_path, rows)
    report = InstructionData(path, val_split=None).prepare(chatml.tokenizer, chatml).report
    assert report.rows_with_special_tokens == 1


@pytest.mark.parametrize(
    ("template", "count"), [(STRIPS_THOUGHT, 1), (OPENED_THOUGHT, 0), (SOURCES["chatml"], 0)]
)
def test_reasoning_that_the_template_leaves_out_is_counted(
    tmp_path: Path, make_byte_tokenizer: Callable[..., Any], template: str, count: int
) -> None:
    """That of earlier answers is not."""
    specials = ("<|Assistant|>", "<|User|>", "<|eos|>", "<|im_start|>", "<|im_end|>")
    bound = ChatTemplate(template).bind(make_byte_tokenizer(specials=specials))
    ask, thought = {"role": "user", "content": "a"}, "<think>\nSo.\n</think>\n\nYes"
    plain, reasoned = ({"role": "assistant", "content": text} for text in ("No", thought))
    rows = [{"messages": turns} for turns in ([ask, reasoned], [ask, reasoned, ask, plain], [ask, plain])]
    report = prepare(InstructionData(write_rows(tmp_path, rows), val_split=None), bound).report
    assert (report.rows_without_reasoning, report.to_dict()["rows_without_reasoning"]) == (count, count)


def test_unknown_characters_are_counted(tmp_path: Path, smollm2_tokenizer: Any) -> None:
    """SmolLM2 has no token for the byte 4, and drops it; its unknown token is one that texts end with."""
    template = ChatTemplate().bind(smollm2_tokenizer)
    rows = [
        qa(0),
        {"instruction": "q", "output": "one \x04 two"},
        {"instruction": "<|endoftext|>", "output": "a"},
    ]
    path = write_rows(tmp_path, rows)
    report = InstructionData(path, val_split=None).prepare(smollm2_tokenizer, template).report
    assert report.rows_with_unknown_characters == 1
    path = write_rows(
        tmp_path, [{"text": "one \x04 two"}, {"text": "one"}, {"text": "<|endoftext|>"}], "text.jsonl"
    )
    report = TextData(path, val_split=None).prepare(smollm2_tokenizer, None).report
    assert report.rows_with_unknown_characters == 1


def test_group_by_keeps_a_group_in_one_split(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [{**qa(number), "author": f"author {number % 12}"} for number in range(120)]
    path = write_rows(tmp_path, rows)
    prepared = InstructionData(path, val_split=0.3, group_by="author").prepare(chatml.tokenizer, chatml)

    def authors(samples: Any) -> set[int]:
        texts = decode(samples, chatml.tokenizer)
        return {int(text.partition("user\nq")[2].partition("<")[0]) % 12 for text in texts}

    assert not authors(prepared.train) & authors(prepared.val)
    assert len(prepared.val) % 10 == 0
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, group_by="writer"), chatml)
    assert str(caught.value).startswith(f"{path}:1: ")
    assert (caught.value.key, caught.value.got) == ("data.group_by", "writer")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([Message("system", "x", True)], "the first turn"),
        ([Message("user", 5), Message("assistant", "a", True)], "expected Messages"),  # type: ignore[arg-type]
        ([Message("user", "q"), Message("assistant", None, True)], "expected Messages"),  # type: ignore[arg-type]
        (
            Conversation([Message("user", "q"), Message("assistant", "a", True)], 5),
            "expected a list of objects",
        ),  # type: ignore[arg-type]
        (7, "expected Messages"),
    ],
)
def test_invalid_value_of_a_format_is_quarantined_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chatml: BoundTemplate, value: Any, problem: str
) -> None:
    good = [Message("user", "q"), Message("assistant", "a", True)]

    def mine(row: Row) -> Any:
        return value if row["n"] == 15 else good

    monkeypatch.setattr(preparing, "_CHUNK_ROWS", 7)
    path = write_rows(tmp_path, [{"n": number} for number in range(30)])
    report = prepare(InstructionData(path, mine, val_split=None, on_invalid="quarantine"), chatml).report
    assert (report.rows_read, report.rows_train) == (30, 29)
    assert problem in report.quarantined[0]["reason"]


def test_columns_that_no_format_reads_are_reported(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(number) | {"topic": "x", "note": "y" if number else ""} for number in range(3)]
    prepared = prepare(
        InstructionData(write_rows(tmp_path, rows), val_split=None, group_by="topic"), chatml
    )
    assert prepared.report.to_dict()["ignored_columns"] == {"note": 2}
    assert "'note' (2 rows)" in "\n".join(summarize_data(prepared).columns)


@pytest.mark.parametrize(
    ("column", "key"),
    [("image", "image[1]"), ("images", "images[1]"), ("videos", "videos"), ("audios", "audios")],
)
def test_row_with_an_image_that_the_model_does_not_see_raises(
    tmp_path: Path, chatml: BoundTemplate, column: str, key: str
) -> None:
    row = {"instruction": "<image> What is this?", "output": "A cat."}
    path = write_rows(tmp_path, [row | {column: ["cat.png"]}, row | {column: []}, row | {column: None}])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path), chatml)
    assert caught.value.key == key
    assert "data.on_invalid='quarantine'" in caught.value.fix
    report = prepare(InstructionData(path, val_split=None, on_invalid="quarantine"), chatml).report
    assert report.rows_train == 2


def test_image_column_that_the_format_reads_as_text_is_accepted(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    path = write_rows(tmp_path, [{"image": f"a cat {number}", "output": "A cat."} for number in range(2)])
    read = partial(formats.columns, user="{image}", assistant="output")
    assert prepare(InstructionData(path, format=read, val_split=None), chatml).report.rows_train == 2
