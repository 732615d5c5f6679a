"""Pairs and labels in the books: long ones, empty ones, equal ones, ones that contradict themselves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from xft.data import PreferenceData, UnpairedPreferenceData, formats
from xft.errors import DataError, IdenticalAnswersError
from xft.reporting.data_summary import summarize_data
from xft.reporting.summary_format import format_summary
from xft.templates import SOURCES, BoundTemplate, ChatTemplate
from xft.types import IGNORE_INDEX, Row

TURN = {"user": 8, "assistant": 13}
"""Tokens of a turn beside its content: in ChatML, with a token for each byte."""


def write(folder: Path, rows: list[Row]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return str(file)


def pair(number: int, **more: Any) -> Row:
    return {"prompt": f"q{number}", "chosen": "yes", "rejected": "no", **more}


def texts(samples: Any, tokenizer: Any) -> list[str]:
    return [tokenizer.decode(each.input_ids) for each in samples]


def chat(*turns: str) -> list[Row]:
    """Turns of user and assistant, in turn."""
    return [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(turns)]


SYSTEM = {"role": "system", "content": "s"}
LONG = {
    "prompt": [SYSTEM, *chat("a" * 30, "b" * 30, "c" * 30, "d" * 30, "e")],
    "chosen": "yes" * 4,
    "rejected": "no",
}
EXCHANGE = sum(TURN.values()) + 60
LAST = TURN["user"] + 1 + TURN["assistant"] + 12
HEAD = 8 + len("system") - len("user") + 1


@pytest.mark.parametrize(
    ("max_length", "kept"),
    [(HEAD + 2 * EXCHANGE + LAST, 2), (HEAD + 2 * EXCHANGE + LAST - 1, 1), (HEAD + EXCHANGE + LAST - 1, 0)],
)
def test_truncated_pair_drops_the_oldest_exchanges_for_both_answers(
    tmp_path: Path, chatml: BoundTemplate, max_length: int, kept: int
) -> None:
    path = write(tmp_path, [LONG])
    data = PreferenceData(
        path, max_length=max_length, on_overlong="truncate", max_overlong_fraction=1, val_split=None
    )
    prepared = data.prepare(chatml.tokenizer, chatml)
    prompt = [SYSTEM, *LONG["prompt"][1:][4 - 2 * kept :]]
    expected = [
        "".join(f"<|im_start|>{each['role']}\n{each['content']}<|im_end|>\n" for each in turns)
        for turns in (
            [*prompt, {"role": "assistant", "content": LONG[side]}] for side in ("chosen", "rejected")
        )
    ]
    assert texts(prepared.train, chatml.tokenizer) == expected
    assert [(each.labels != IGNORE_INDEX).sum() for each in prepared.train] == [13, 3]
    assert prepared.report.rows_truncated == (kept < 2)
    assert prepared.report.lengths.tolist() == [HEAD + 2 * EXCHANGE + LAST]


def test_truncated_pair_keeps_both_answers(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path, [LONG, pair(0)])
    data = PreferenceData(
        path, max_length=HEAD + LAST - 1, on_overlong="truncate", max_overlong_fraction=1, val_split=None
    )
    prepared = data.prepare(chatml.tokenizer, chatml)
    assert len(prepared.train) == 2
    assert prepared.report.rows_dropped == {"longer than max_length": 1}
    assert prepared.report.rows_truncated == 0


def test_turns_of_an_answer_are_not_cut_either(tmp_path: Path, chatml: BoundTemplate) -> None:
    later = chat("a", "b" * 30, "c", "d" * 30)
    row = {"chosen": later, "rejected": [later[0], {"role": "assistant", "content": "x"}]}
    data = PreferenceData(
        write(tmp_path, [row, pair(0)]),
        max_length=80,
        on_overlong="truncate",
        max_overlong_fraction=1,
        val_split=None,
    )
    assert data.prepare(chatml.tokenizer, chatml).report.rows_dropped == {"longer than max_length": 1}


def test_on_overlong_error_of_a_pair_raises(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path, [pair(0), LONG])
    data = PreferenceData(path, max_length=100, on_overlong="error", val_split=None)
    with pytest.raises(DataError) as error:
        data.prepare(chatml.tokenizer, chatml)
    assert (error.value.key, error.value.got) == ("data.max_length", HEAD + 2 * EXCHANGE + LAST)
    assert str(error.value).startswith(f"{path}:2: ")


def test_truncated_unpaired_answer_drops_the_start_of_its_prompt(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    row = {"prompt": chat("a" * 30, "b" * 30, "c"), "completion": "yes", "label": False}
    data = UnpairedPreferenceData(
        write(tmp_path, [row]),
        max_length=60,
        on_overlong="truncate",
        max_overlong_fraction=1,
        val_split=None,
    )
    [sample] = data.prepare(chatml.tokenizer, chatml).train
    expected = "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
    assert chatml.tokenizer.decode(sample.input_ids) == expected
    assert sample.desirable is False


def test_pair_is_two_unpaired_examples_in_the_same_split(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write(tmp_path, [pair(number) for number in range(20)])
    data = UnpairedPreferenceData(path, format=formats.preference, val_split=4)
    prepared = data.prepare(chatml.tokenizer, chatml)
    assert (prepared.samples_per_example, len(prepared.train), len(prepared.val)) == (1, 32, 8)
    for samples in (prepared.train, prepared.val):
        assert [each.desirable for each in samples] == [True, False] * (len(samples) // 2)
    same = PreferenceData(path, val_split=4).prepare(chatml.tokenizer, chatml)
    assert texts(same.train, chatml.tokenizer) == texts(prepared.train, chatml.tokenizer)
    assert prepared.report.rows_read == prepared.report.rows_train + prepared.report.rows_val == 20


@pytest.mark.parametrize("kind", [PreferenceData, UnpairedPreferenceData])
def test_pairs_that_teach_nothing_are_counted_by_their_reason(
    tmp_path: Path, chatml: BoundTemplate, kind: Any
) -> None:
    rows = [
        *(pair(number) for number in range(4)),
        pair(4, rejected="yes"),
        pair(5, rejected=" yes\n"),
        pair(6, chosen=" "),
        pair(7, rejected=""),
        {"prompt": "q", "chosen": "yes"},
    ]
    data = kind(write(tmp_path, rows), format=formats.preference, on_invalid="quarantine", val_split=1)
    prepared = data.prepare(chatml.tokenizer, chatml)
    assert prepared.report.rows_dropped == {
        "chosen and rejected are the same": 2,
        "an answer is empty": 2,
        "does not fit the format": 1,
    }
    printed = "\n".join(format_summary(summarize_data(prepared)))
    assert "2 dropped: chosen and rejected are the same" in printed
    assert printed.count("full list with reasons") == 1
    assert "            …" in printed


def test_answers_that_become_the_same_tokens_are_refused(
    tmp_path: Path, make_byte_tokenizer: Callable[..., Any]
) -> None:
    """A tokenizer that normalises (NFC, as Qwen's) sees no difference between two ways to write é."""
    tokenizer = make_byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    template = ChatTemplate(SOURCES["chatml"]).bind(tokenizer)
    path = write(tmp_path, [pair(0, chosen="caf\u00e9", rejected="cafe\u0301")])
    with pytest.raises(DataError) as error:
        PreferenceData(path, val_split=None).prepare(tokenizer, template)
    assert isinstance(error.value.__cause__, IdenticalAnswersError)


SCORES = [
    {"chosen_score": 3, "rejected_score": 4.5},
    {"score_chosen": "3", "score_rejected": "4.5"},
    {"chosen-rating": -2, "rejected-rating": -1},
    {"chosen_score": 4, "rejected_score": 4},
    {"chosen_score": 5, "rejected_score": 4},
    {"chosen_score": 3, "rejected_score": None},
    {},
]


@pytest.mark.parametrize("kind", [PreferenceData, UnpairedPreferenceData])
def test_rows_whose_scores_contradict_them_are_counted_and_kept(
    tmp_path: Path, chatml: BoundTemplate, kind: Any
) -> None:
    rows = [pair(number, **scores) for number, scores in enumerate(SCORES)]
    data = kind(write(tmp_path, rows), format=formats.preference, val_split=None)
    prepared = data.prepare(chatml.tokenizer, chatml)
    assert len(prepared.train) == 2 * len(SCORES)
    assert prepared.report.rows_chosen_scored_lower == 3
    assert prepared.report.to_dict()["rows_chosen_scored_lower"] == 3
    line = "        3 score the rejected answer higher; used unchanged"
    assert line in format_summary(summarize_data(prepared))


def test_columns_of_scores_can_be_named_and_must_be_numbers() -> None:
    row = pair(0, good=1, bad=2.5)
    assert formats.preference(row, chosen_score="good", rejected_score="bad").scores == (1.0, 2.5)
    assert formats.preference(row).scores is None
    with pytest.raises(DataError) as caught:
        formats.preference(pair(0, chosen_score="high", rejected_score=1))
    assert (caught.value.key, caught.value.expected) == ("chosen_score", "a number")
    with pytest.raises(DataError) as caught:
        formats.preference(pair(0, chosen_score=1, rejected_score=True))
    assert (caught.value.key, caught.value.expected) == ("rejected_score", "a number")
