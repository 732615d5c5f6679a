"""Packing: no sample lost, split or doubled, and full sequences."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xft.data.batching.packing import pack, packing_efficiency

LENGTHS = st.lists(st.integers(1, 64), max_size=80)


@settings(deadline=None)
@given(lengths=LENGTHS, pack_length=st.integers(64, 160))
def test_pack_puts_each_sample_into_one_sequence_without_overflow(
    lengths: list[int], pack_length: int
) -> None:
    rows = pack(lengths, pack_length)
    assert Counter(index for row in rows for index in row) == Counter(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= pack_length for row in rows)
    assert all(rows), "no sequence is empty"


@settings(deadline=None)
@given(lengths=LENGTHS, pack_length=st.integers(64, 160))
def test_pack_leaves_no_two_sequences_that_fit_into_one(lengths: list[int], pack_length: int) -> None:
    sums = sorted(sum(lengths[index] for index in row) for row in pack(lengths, pack_length))
    assert len(sums) < 2 or sums[0] + sums[1] > pack_length


@settings(deadline=None)
@given(lengths=LENGTHS, pack_length=st.integers(64, 160), random=st.randoms())
def test_order_does_not_change_the_number_of_sequences(
    lengths: list[int], pack_length: int, random: Any
) -> None:
    order = list(range(len(lengths)))
    random.shuffle(order)
    shuffled = pack(lengths, pack_length, order)
    plain = pack(lengths, pack_length)
    assert len(shuffled) == len(plain)
    assert sorted(index for row in shuffled for index in row) == list(range(len(lengths)))


def test_best_fit_decreasing_by_hand() -> None:
    # 7 and 6 open sequences; 4 fits best next to 6 (3 and 4 tokens are free); 3 next to 7; 2 opens the last one.
    assert pack([2, 3, 4, 6, 7], 10) == [[4, 1], [3, 2], [0]]


def test_sample_of_the_pack_length_fills_a_sequence() -> None:
    assert sorted(pack([10, 1, 10], 10)) == [[0], [1], [2]]


def test_tail_is_kept() -> None:
    assert pack([10, 10, 1], 10)[-1] == [2]


def test_order_decides_between_samples_of_equal_length() -> None:
    assert pack([5, 5, 5, 5], 10, [3, 1, 0, 2]) == [[3, 1], [0, 2]]


def test_pack_of_no_samples_is_empty() -> None:
    assert pack([], 10) == []


def test_sample_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="11 tokens does not fit into 10"):
        pack([3, 11], 10)


def test_fill_is_the_share_of_places_in_use() -> None:
    assert packing_efficiency([6, 4, 5], [[0, 1], [2]], 10) == pytest.approx(0.75)
    assert packing_efficiency([], [], 10) == 0.0


@pytest.mark.parametrize("name", ["smollm2_tokenizer", "qwen3_tokenizer"])
def test_rows_of_2048_are_at_least_97_percent_full_on_alpaca(
    name: str, request: pytest.FixtureRequest, shared: Path
) -> None:
    tokenizer = request.getfixturevalue(name)
    rows = json.loads((shared / "data" / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    texts = [
        tokenizer.apply_chat_template(
            [
                {"role": "user", "content": f"{row['instruction']}\n{row['input']}"},
                {"role": "assistant", "content": row["output"]},
            ],
            tokenize=False,
        )
        for row in rows
    ]
    lengths = [len(each) for each in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    packed = pack(lengths, 2048)
    assert sum(lengths) / (len(packed) * 2048) >= 0.97
    assert packing_efficiency(lengths, packed, 2048) == pytest.approx(sum(lengths) / (len(packed) * 2048))
