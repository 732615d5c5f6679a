"""Terminal lines of a data summary."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from xft.data import DataReport, PreparedData, SampleView
from xft.reporting.data_summary import summarize_data
from xft.reporting.summary_format import format_summary

NOTHING = SampleView([])


def test_format_summary_lists_counts_with_examples() -> None:
    ledger = DataReport(
        rows_available=5000,
        rows_read=1020,
        rows_train=1000,
        rows_val=10,
        rows_dropped=Counter({"longer than max_length": 4, "does not fit the format": 6}),
        rows_truncated=2,
        rows_with_special_tokens=7,
        rows_with_unknown_characters=8,
        ignored_columns=Counter({"id": 1020, "messages[].name": 3}),
        exact_duplicates=1,
        near_duplicates=4,
        near_examples=[(f"a:{at}", f"b:{at}", 0.876) for at in range(4)],
        quarantined=[
            {"file": "x.jsonl", "line": 3, "reason": "first"},
            {"file": "x.parquet", "number": 4, "reason": "second"},
            *({"file": "x.jsonl", "line": at, "reason": "more"} for at in range(5, 9)),
        ],
        lengths=np.array([10, 20, 30], np.int32),
    )
    summary = summarize_data(PreparedData(NOTHING, NOTHING, ledger))
    summary = replace(summary, quarantine_files=(Path("kept/quarantine.jsonl"),))
    assert format_summary(summary) == [
        "    1,020 rows read, of 5,000 in the sources",
        "    1,000 train",
        "       10 val",
        "        4 dropped: longer than max_length",
        "        6 dropped: does not fit the format",
        "            x.jsonl:3: first",
        "            x.parquet, row 4: second",
        "            x.jsonl:5: more",
        "            …",
        "            full list with reasons: kept/quarantine.jsonl",
        "        2 truncated",
        "            tokens per row before truncation: p50 = 20, p95 = 29, max = 30",
        "        1 with the same tokens as an earlier row",
        "        4 near duplicates: at least 80% of the token n-grams of an earlier row",
        "            b:0 repeats a:0 (88%)",
        "            b:1 repeats a:1 (88%)",
        "            b:2 repeats a:2 (88%)",
        "            …",
        "        7 contain the text of a special token, which is encoded as that token",
        "        8 contain characters that the tokenizer cannot encode",
        "  columns not read by the format: 'id' (1,020 rows), 'messages[].name' (3 rows)",
    ]


def test_format_summary_of_clean_rows_has_only_counts() -> None:
    ledger = DataReport(rows_available=3, rows_read=3, rows_train=2, rows_val=1)
    assert format_summary(summarize_data(PreparedData(NOTHING, NOTHING, ledger))) == [
        "        3 rows read",
        "        2 train",
        "        1 val",
    ]
