"""The report in the terminal: histograms against a second count, figures against hand-made books."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xft.data import InstructionData, Ledger, Prepared, Samples
from xft.reporting.data_summary import histogram, packed, totals
from xft.run_config.config import Training
from xft.templates import SOURCES, ChatTemplate

NOTHING = Samples([])


@given(values=st.lists(st.integers(0, 5000), min_size=1, max_size=300), most=st.integers(2, 15))
def test_every_value_is_counted_in_the_bar_that_says_so(values: list[int], most: int) -> None:
    bars = histogram(np.array(values, dtype=np.int32), most)
    assert 1 <= len(bars) <= most
    assert [each.count for each in bars] == [
        sum(each.first <= value <= each.last for value in values) for each in bars
    ]
    assert sum(each.count for each in bars) == len(values)
    assert all(after.first == before.last + 1 for before, after in pairwise(bars))
    assert len({each.last - each.first for each in bars[:-1]}) <= 1


def test_bars_have_round_borders() -> None:
    bars = histogram(np.arange(13, 94), most=10)
    assert [(each.first, each.last, each.count) for each in bars] == [
        (10, 19, 7),
        *((begin, begin + 9, 10) for begin in range(20, 90, 10)),
        (90, 99, 4),
    ]


def test_one_huge_value_does_not_squeeze_the_others_into_one_bar() -> None:
    bars = histogram(np.array([*range(100), *range(100), 1_000_000]), most=11)
    assert len(bars) >= 8
    assert bars[0].count == 20
    assert bars[-1].last == 1_000_000


def test_no_values_have_no_bars() -> None:
    assert histogram(np.empty(0, np.int32)) == []


def test_books_are_told_with_examples_and_places() -> None:
    ledger = Ledger(
        rows_available=5000,
        rows_read=1020,
        rows_train=1000,
        rows_val=10,
        rows_dropped=Counter({"longer than max_length": 4, "does not fit the format": 6}),
        rows_truncated=2,
        rows_with_special_tokens=7,
        rows_with_unknown_characters=8,
        exact_duplicates=1,
        near_duplicates=4,
        near_examples=[(f"a:{at}", f"b:{at}", 0.876) for at in range(4)],
        quarantined=[
            {"file": "x.jsonl", "line": 3, "reason": "first"},
            {"file": "x.parquet", "number": 4, "reason": "second"},
            *({"file": "x.jsonl", "line": at, "reason": "more"} for at in range(5, 9)),
        ],
        quarantine_files=[Path("kept/quarantine.jsonl")],
        lengths=np.array([10, 20, 30], np.int32),
    )
    assert totals(Prepared(NOTHING, NOTHING, ledger)) == [
        "    1,020 rows read, of 5,000 that the sources hold",
        "    1,000 to train on",
        "       10 to validate on",
        "        4 dropped: longer than max_length",
        "        6 dropped: does not fit the format",
        "            x.jsonl:3: first",
        "            x.parquet, row 4: second",
        "            x.jsonl:5: more",
        "            …",
        "            all of them, with their reasons: kept/quarantine.jsonl",
        "        2 of these cut to length",
        "            tokens of a row before that: p50 = 20, p95 = 29, max = 30",
        "        1 with the same tokens as an earlier row",
        "        4 with 80% or more of the token sequences of an earlier row",
        "            b:0 repeats a:0 (88%)",
        "            b:1 repeats a:1 (88%)",
        "            b:2 repeats a:2 (88%)",
        "            …",
        "        7 with a special token spelt in the content: it becomes that token, as if the template "
        "had written it",
        "        8 with a character that the tokenizer has no token for: the model cannot read it",
    ]


def test_of_rows_without_fault_nothing_is_said_but_their_number() -> None:
    ledger = Ledger(rows_available=3, rows_read=3, rows_train=2, rows_val=1)
    assert totals(Prepared(NOTHING, NOTHING, ledger)) == [
        "        3 rows read",
        "        2 to train on",
        "        1 to validate on",
    ]


@pytest.fixture
def counted(tmp_path: Path, byte_tokenizer: Any) -> tuple[Prepared, InstructionData]:
    """Six rows whose length in tokens is known: 2 of 25, 2 of 35 and 2 of 45.

    ``<|im_start|>user\\nq<|im_end|>\\n<|im_start|>assistant\\n`` is 1+5+1 +1+1 +1+10 = 20 tokens,
    the answer and its end-of-turn token are trained, and a line break ends it all.
    """
    rows = [{"instruction": "q", "output": letter * n} for n in (3, 13, 23) for letter in "ab"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    data = InstructionData(str(path), max_length=64, val_split=0, cache_dir=str(tmp_path / "cache"))
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    return data.prepare(byte_tokenizer, template), data


def test_figures_of_a_split_are_those_counted_by_hand(counted: tuple[Prepared, InstructionData]) -> None:
    lines = totals(counted[0])
    assert lines[lines.index("") :] == [
        "",
        "train 6 samples, 210 tokens, 84 of them trained (40%)",
        "      tokens of a sample  p50      35   p95      45   longest      45",
        "      trained of these    p50      14   p95      24   longest      24",
        "        24 – 26  ████████████████████████████████████████ 2",
        "        27 – 29  0",
        "        30 – 32  0",
        "        33 – 35  ████████████████████████████████████████ 2",
        "        36 – 38  0",
        "        39 – 41  0",
        "        42 – 44  0",
        "        45 – 47  ████████████████████████████████████████ 2",
        "",
        "val   0 samples, 0 tokens, 0 of them trained (0%)",
    ]


def recipe(data: InstructionData, least: int) -> Any:
    return SimpleNamespace(data=data, training=Training(min_steps_per_epoch=least), seed=0)


def test_fill_is_the_one_counted_by_hand(counted: tuple[Prepared, InstructionData]) -> None:
    prepared, data = counted
    # 45 and 45 stand alone in 64, 35 + 25 together, twice.
    found = packed(prepared, recipe(data, least=0))
    assert found is not None
    assert found.figures == {"capacity": 64, "rows": 4, "fill": round(210 / (4 * 64), 4)}
    assert totals(prepared, recipe(data, least=0))[-1] == "packed into 4 rows of 64 tokens, 82.0% full"


def test_rows_are_as_long_as_training_makes_them(counted: tuple[Prepared, InstructionData]) -> None:
    prepared, data = counted
    # With five steps at least, training shortens rows until no two samples fit into one.
    lines = totals(prepared, recipe(data, least=5))
    assert lines[-2] == "packed into 6 rows of 45 tokens, 77.8% full"
    assert lines[-1].startswith("note: few rows: packed length 64 → 45")


def test_without_packing_nothing_is_said_of_it(counted: tuple[Prepared, InstructionData]) -> None:
    prepared, data = counted
    data.packing = False
    assert packed(prepared, recipe(data, least=0)) is None
    assert totals(prepared, recipe(data, least=0)) == totals(prepared)
