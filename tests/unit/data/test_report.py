"""Counts and stats of the data report."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.rows import (
    assert_balanced,
    prepare,
    qa,
    write_rows,
)

from xft.data import (
    DataReport,
    InstructionData,
    SampleView,
)
from xft.data.report import split_stats
from xft.templates import BoundTemplate, ChatTemplate


def test_report_of_real_rows_balances_and_counts_every_token(shared: Path, smollm2_tokenizer: Any) -> None:
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
    lengths = [len(reference) for reference in references]
    assert sorted(prepared.report.lengths.tolist()) == sorted(lengths)
    kept = [length for length in lengths if length <= 256]
    assert 0 < prepared.report.rows_dropped.total() == len(rows) - len(kept)
    assert_balanced(prepared.report, len(rows))
    splits = prepared.report.splits
    assert splits["train"]["tokens"] + splits["val"]["tokens"] == sum(kept)
    assert splits["train"]["samples"] == len(prepared.train)
    assert splits["val"]["samples"] == len(prepared.val) == len(kept) - len(prepared.train)


def test_to_dict_is_json_without_the_quarantined_rows(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [qa(0), qa(1), {"secret": "row"}])
    report = prepare(InstructionData(path, on_invalid="quarantine"), chatml).report.to_dict()
    again = json.loads(json.dumps(report))
    assert again == report
    assert (again["rows_read"], again["rows_train"], again["rows_val"]) == (3, 1, 1)
    assert sum(again["rows_dropped"].values()) == 1
    assert [row["line"] for row in again["quarantined"]] == [3]
    assert "row" not in again["quarantined"][0]


def test_check_balance_of_missing_rows_raises() -> None:
    with pytest.raises(AssertionError):
        DataReport(rows_read=3, rows_train=1, rows_val=1).check_balance(SampleView([]), SampleView([]))


def test_split_stats_by_hand(tmp_path: Path, chatml: BoundTemplate) -> None:
    # 23, 24 and 30 tokens, of which answer and end of turn are 2, 3 and 9.
    rows = [{"instruction": "q", "output": answer} for answer in ("a", "bc", "12345678")]
    stats = split_stats(prepare(InstructionData(write_rows(tmp_path, rows), val_split=None), chatml).train)
    assert (stats["samples"], stats["tokens"], stats["target_tokens"]) == (3, 77, 14)
    assert stats["target_share"] == round(14 / 77, 4)
    assert (stats["length"]["p50"], stats["length"]["p95"], stats["length"]["max"]) == (24, 29, 30)
    assert (stats["target_length"]["p50"], stats["target_length"]["max"]) == (3, 9)
    assert sum(bar["count"] for bar in stats["length"]["histogram"]) == 3


def test_split_stats_of_an_empty_split_are_zero() -> None:
    stats = split_stats(SampleView([]))
    assert (stats["samples"], stats["tokens"], stats["target_tokens"]) == (0, 0, 0)
    assert stats["target_share"] == 0.0
    assert DataReport().length_summary() == "no rows"


def test_merge_adds_counts_and_keeps_examples() -> None:
    one = DataReport(
        rows_read=5, rows_train=3, rows_dropped=Counter({"a": 2}), lengths=np.array([1, 2], np.int32)
    )
    two = DataReport(
        rows_read=4, rows_val=1, rows_dropped=Counter({"a": 1, "b": 2}), lengths=np.array([3], np.int32)
    )
    two.near_examples.append(("x:1", "x:2", 0.96))
    one.merge(two)
    assert (one.rows_read, one.rows_train, one.rows_val) == (9, 3, 1)
    assert one.rows_dropped == {"a": 3, "b": 2}
    assert one.lengths.tolist() == [1, 2, 3]
    assert one.to_dict()["near_duplicate_examples"] == [{"row": "x:2", "repeats": "x:1", "jaccard": 0.96}]
