"""Scores of rows in every form, with a tiny reward model, against transformers alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.preferences import reward_model, write_json_lines

from xft.data.formats import alpaca, openai, preference, sharegpt
from xft.data.sources import RowLocation, resolve_source
from xft.errors import ConfigError, DataError, ModelError
from xft.evaluation import reward_scoring
from xft.evaluation.reward_scoring import RewardScorer, ScoredRow, format_by_columns, score_rows
from xft.models import LoadedModel
from xft.templates import SOURCES
from xft.types import Conversation, Message, Row, UnpairedExample

PAIR = {"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}
COMPLETION = {"prompt": "Hi", "completion": "Hello."}
MESSAGES = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]}
SHAREGPT = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}
ALPACA = {"instruction": "Hi", "output": "Hello."}


@pytest.fixture(scope="module")
def loaded(make_byte_tokenizer: Callable[..., Any]) -> LoadedModel:
    return LoadedModel(reward_model().eval(), make_byte_tokenizer(SOURCES["chatml"]))


def scored(loaded: LoadedModel, folder: Path, *rows: Row, format: Any = None) -> list[ScoredRow]:
    path = write_json_lines(folder / "rows.jsonl", rows)
    return list(RewardScorer(loaded, format).rate(resolve_source(str(path))))


def plain_score(loaded: LoadedModel, answer: str) -> float:
    """The score of an answer to ``Hi``, by transformers alone."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
    tokenizer: Any = loaded.tokenizer
    ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"]
    with torch.no_grad():
        return float(loaded.base(input_ids=ids).logits[0, 0])


def test_rate_gives_rows_of_any_form_the_score_of_transformers(loaded: LoadedModel, tmp_path: Path) -> None:
    rows = scored(loaded, tmp_path, PAIR, COMPLETION, MESSAGES, SHAREGPT, ALPACA)
    chosen, rejected = plain_score(loaded, "Hello."), plain_score(loaded, "No.")
    assert abs(chosen - rejected) > 1e-3
    assert rows[0].scores == pytest.approx((chosen, rejected), rel=1e-4)
    assert rows[0].margin == pytest.approx(chosen - rejected, rel=1e-3)
    assert [row.scores for row in rows[1:]] == [pytest.approx((chosen,), rel=1e-4)] * 4
    assert {row.margin for row in rows[1:]} == {None}
    assert [row.origin.line for row in rows] == [1, 2, 3, 4, 5]


def test_conversations_have_the_scores_of_rows(loaded: LoadedModel) -> None:
    answers = ("Hello.", "No.")
    conversations = [
        Conversation([Message("user", "Hi"), Message("assistant", answer, is_target=True)])
        for answer in answers
    ]
    scores = RewardScorer(loaded).score_conversations(conversations)
    assert scores == pytest.approx([plain_score(loaded, answer) for answer in answers], rel=1e-4)


def test_rows_are_scored_with_the_system_text_of_the_training(loaded: LoadedModel, tmp_path: Path) -> None:
    trained = replace(loaded, system="Be brief.")
    system = {"role": "system", "content": "Be brief."}
    explicit = {"messages": [system, *MESSAGES["messages"]]}
    (expected,) = scored(loaded, tmp_path, explicit)
    (without,) = scored(loaded, tmp_path, MESSAGES)
    assert expected.scores != pytest.approx(without.scores, rel=1e-4)
    rows = scored(trained, tmp_path, MESSAGES, explicit, COMPLETION)
    assert [row.scores for row in rows] == [pytest.approx(expected.scores, rel=1e-4)] * 3
    conversation = Conversation([Message("user", "Hi"), Message("assistant", "Hello.", True)])
    assert RewardScorer(trained).score_conversations([conversation]) == pytest.approx(
        expected.scores, rel=1e-4
    )


def test_rate_keeps_the_order_across_chunks(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [COMPLETION, PAIR, COMPLETION | {"completion": "No."}, PAIR]
    whole = scored(loaded, tmp_path, *rows)
    monkeypatch.setattr(reward_scoring, "CHUNK_ROWS", 3)
    in_chunks = scored(loaded, tmp_path, *rows)
    assert [row.origin for row in in_chunks] == [row.origin for row in whole]
    assert [len(row.scores) for row in in_chunks] == [1, 2, 1, 2]
    for row, expected in zip(in_chunks, whole, strict=True):
        assert row.scores == pytest.approx(expected.scores, rel=1e-4)


@pytest.mark.parametrize(
    ("row", "format", "key"),
    [
        ({"question": "q"}, None, "columns"),
        ({"instruction": "q", "output": 5}, None, "output"),
        ({"instruction": "q", "output": "a"}, lambda row: row["say"], ""),
        ({"messages": [*MESSAGES["messages"], {"role": "user", "content": "?"}]}, None, ""),
        ({"instruction": "q", "output": "x" * 5000}, None, ""),
    ],
)
def test_rate_invalid_row_raises_with_its_location(
    loaded: LoadedModel, tmp_path: Path, row: Row, format: Any, key: str
) -> None:
    with pytest.raises(DataError) as error:
        scored(loaded, tmp_path, row, format=format)
    assert str(error.value).startswith(f"{tmp_path / 'rows.jsonl'}:1: ")
    assert str(error.value).count("rows.jsonl") == 1
    assert error.value.key == key


def test_reward_scorer_without_chat_template_raises(loaded: LoadedModel, byte_tokenizer: Any) -> None:
    with pytest.raises(ModelError) as error:
        RewardScorer(LoadedModel(loaded.model, byte_tokenizer))
    assert error.value.key == "chat_template"


@pytest.mark.parametrize(
    ("row", "row_format"),
    [
        (PAIR, preference),
        (MESSAGES, openai),
        (SHAREGPT, sharegpt),
        (ALPACA, alpaca),
        (ALPACA | {"messages": None, "chosen": "x"}, alpaca),  # columns that other rows of the table have
    ],
)
def test_format_by_columns_selects_the_format(row: Row, row_format: Callable[[Row], Any]) -> None:
    assert format_by_columns(row) == row_format(row)


def test_format_by_columns_completion_needs_no_label() -> None:
    example = format_by_columns(COMPLETION | {"kto_tag": None, "label": "unknown"})
    assert isinstance(example, UnpairedExample)
    assert [message.content for message in example.answer] == ["Hello."]


@pytest.mark.parametrize(
    ("scores", "record", "line"),
    [
        ((0.5,), {"score": 0.5}, "score 0.5000"),
        (
            (0.5, 0.75),
            {"chosen": 0.5, "rejected": 0.75, "margin": -0.25},
            "chosen 0.5000  rejected 0.7500  margin -0.2500 ✗",
        ),
        (
            (2.0, 0.5),
            {"chosen": 2.0, "rejected": 0.5, "margin": 1.5},
            "chosen 2.0000  rejected 0.5000  margin +1.5000 ✓",
        ),
    ],
)
def test_scored_row_as_record_and_as_line(
    scores: tuple[float, ...], record: dict[str, float], line: str
) -> None:
    row = ScoredRow(RowLocation("a.parquet", 7, "row"), scores)
    assert row.to_dict() == {"file": "a.parquet", "number": 7, **record}
    assert str(row) == f"a.parquet, row 7  {line}"


@pytest.fixture
def rows(loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of a pair and a completion, which are scored with the tiny model."""
    monkeypatch.setattr(reward_scoring, "load_saved_model", lambda path, **options: loaded)
    return str(write_json_lines(tmp_path / "rows.jsonl", [PAIR, COMPLETION]))


def test_score_rows_writes_the_records_and_yields_the_summary(rows: str, tmp_path: Path) -> None:
    printed = list(score_rows("model", rows))
    out = tmp_path / "out.jsonl"
    [summary] = score_rows("model", rows, out=str(out))
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [sorted(record) for record in records] == [
        ["chosen", "file", "line", "margin", "rejected"],
        ["file", "line", "score"],
    ]
    assert printed[2:] == [summary]
    correct = int(records[0]["margin"] > 0)
    assert summary.startswith("2 rows: scores from ")
    assert (
        f"accuracy {correct:.1%} ({correct} of 1 pairs), mean margin {records[0]['margin']:.4f}" in summary
    )


def test_score_rows_invalid_row_leaves_no_file(rows: str, tmp_path: Path) -> None:
    write_json_lines(Path(rows), [PAIR, {"question": "q"}])
    with pytest.raises(DataError):
        list(score_rows("model", rows, out=str(tmp_path / "out.jsonl")))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("name", ["rows.jsonl", "no/such/folder/out.jsonl"])
def test_score_rows_unusable_out_raises(rows: str, tmp_path: Path, name: str) -> None:
    before = Path(rows).read_bytes()
    with pytest.raises(ConfigError) as error:
        list(score_rows("model", rows, out=str(tmp_path / name)))
    assert (error.value.key, error.value.got) == ("--out", str(tmp_path / name))
    assert Path(rows).read_bytes() == before


def test_score_rows_without_rows_raises(rows: str) -> None:
    Path(rows).write_text("", encoding="utf-8")
    with pytest.raises(DataError) as error:
        list(score_rows("model", rows))
    assert (error.value.key, error.value.got) == ("rows", 0)
