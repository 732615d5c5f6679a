"""The validation split, and limits on dropped rows."""

import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from helpers.rows import assert_balanced, chatml_text, decode, prepare, qa, write_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xft.data import InstructionData
from xft.data.formats import alpaca
from xft.errors import ConfigError, DataError
from xft.templates import SOURCES, BoundTemplate, ChatTemplate


def split(path: str, template: BoundTemplate, **arguments: Any) -> tuple[list[str], list[str]]:
    prepared = prepare(InstructionData(path, **arguments), template)
    assert prepared.report.rows_train == len(prepared.train)
    assert prepared.report.rows_val == len(prepared.val)
    return decode(prepared.train, template.tokenizer), decode(prepared.val, template.tokenizer)


@pytest.mark.parametrize(
    ("val", "rows", "expected"),
    # Each row is drawn on its own, so a fraction holds on average. The bounds are four standard deviations.
    [
        (0.05, 2000, (61, 139)),
        (0.25, 2000, (423, 577)),
        (7, 100, (7, 7)),
        (0.05, 2, (1, 1)),
        (1, 2, (1, 1)),
    ],
)
def test_val_split_fraction_or_number_is_kept_with_at_least_one_row(
    tmp_path: Path, chatml: BoundTemplate, val: float, rows: int, expected: tuple[int, int]
) -> None:
    written = [qa(number) for number in range(rows)]
    train, held = split(write_rows(tmp_path, written), chatml, val_split=val)
    assert expected[0] <= len(held) <= expected[1]
    assert Counter(train + held) == Counter(chatml_text(f"q{i}", f"a{i}") for i in range(rows))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [(2, (1, 1)), (10, (2, 2)), (24, (4, 4)), (60, (10, 12)), (100, (10, 14)), (2000, (61, 139))],
)
def test_val_split_default_holds_out_ten_rows_or_a_fifth_of_few(
    tmp_path: Path, chatml: BoundTemplate, rows: int, expected: tuple[int, int]
) -> None:
    train, held = split(write_rows(tmp_path, [qa(number) for number in range(rows)]), chatml)
    assert len(train) + len(held) == rows
    assert expected[0] <= len(held) <= expected[1]


def test_val_split_default_selects_the_rows_of_the_fraction_first(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    path = write_rows(tmp_path, [qa(number) for number in range(100)])
    assert set(split(path, chatml, val_split=0.05)[1]) <= set(split(path, chatml)[1])


@pytest.mark.parametrize("name", ["train[:2]", "train[:10%]", "test"])
def test_split_of_a_file_raises(tmp_path: Path, chatml: BoundTemplate, name: str) -> None:
    data = InstructionData(write_rows(tmp_path, [qa(number) for number in range(5)]), split=name)
    for action in (data.check_sources, lambda: prepare(data, chatml)):
        with pytest.raises(ConfigError) as caught:
            action()
        assert (caught.value.key, caught.value.got) == ("data.split", name)
        assert "#500" in caught.value.fix


def test_split_of_the_hub_may_have_a_validation_file(tmp_path: Path) -> None:
    path = write_rows(tmp_path, [qa(0)])
    InstructionData("owner/name", split="train[:2]", val_split=path).check_sources()


def test_val_split_none_trains_on_every_row(tmp_path: Path, chatml: BoundTemplate) -> None:
    train, held = split(write_rows(tmp_path, [qa(0)]), chatml, val_split=None)
    assert (len(train), held) == (1, [])


def test_val_split_depends_on_the_seed_only(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [qa(number) for number in range(60)])
    first = split(path, chatml, val_split=0.2)
    assert split(path, chatml, val_split=0.2) == first
    assert set(split(path, chatml, val_split=0.2, split_seed=1)[1]) != set(first[1])


def test_val_split_does_not_depend_on_the_order_of_rows_or_keys(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    rows = [qa(number) for number in range(60)]
    shuffled = [dict(reversed(row.items())) for row in rows]
    random.Random(0).shuffle(shuffled)
    _, held = split(write_rows(tmp_path, rows), chatml, val_split=0.2)
    _, held_of_shuffled = split(write_rows(tmp_path, shuffled, "b.jsonl"), chatml, val_split=0.2)
    assert set(held) == set(held_of_shuffled)


def test_val_split_keeps_held_out_rows_when_rows_are_added(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(number) for number in range(60)]
    train, held = split(write_rows(tmp_path, rows), chatml, val_split=0.2)
    more = [*rows[30:], *(qa(number) for number in range(60, 600)), *rows[:30]]
    train_of_more, held_of_more = split(write_rows(tmp_path, more, "b.jsonl"), chatml, val_split=0.2)
    assert set(held) <= set(held_of_more)
    assert set(train) <= set(train_of_more)


def test_val_split_keeps_duplicates_in_one_split(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [qa(number % 20) for number in range(100)]
    train, held = split(write_rows(tmp_path, rows), chatml, val_split=10)
    assert not set(train) & set(held)
    assert set(Counter(train).values()) == set(Counter(held).values()) == {5}
    assert len(held) == 10


def test_val_split_of_real_rows_is_disjoint_by_content(shared: Path, smollm2_tokenizer: Any) -> None:
    template = ChatTemplate().bind(smollm2_tokenizer)
    data = InstructionData(str(shared / "data" / "alpaca_en_demo.json"), max_length=4096)
    prepared = data.prepare(smollm2_tokenizer, template)
    assert len(prepared.train) + len(prepared.val) == 999
    assert 25 <= len(prepared.val) <= 75
    train, held = decode(prepared.train, smollm2_tokenizer), decode(prepared.val, smollm2_tokenizer)
    assert not set(train) & set(held)


def test_val_split_file_is_encoded_and_counted(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [qa(0), qa(1), qa(2)])
    val = write_rows(tmp_path, [qa(7), qa(8)], "val.jsonl")
    prepared = prepare(InstructionData(path, val_split=val), chatml)
    assert decode(prepared.train, chatml.tokenizer) == [chatml_text(f"q{i}", f"a{i}") for i in (0, 1, 2)]
    assert decode(prepared.val, chatml.tokenizer) == [chatml_text(f"q{i}", f"a{i}") for i in (7, 8)]
    assert (prepared.report.rows_train, prepared.report.rows_val) == (3, 2)
    assert_balanced(prepared.report, 5)


def test_val_split_of_one_row_raises(tmp_path: Path, chatml: BoundTemplate) -> None:
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(write_rows(tmp_path, [qa(0)])), chatml)
    assert (caught.value.key, caught.value.got) == ("data.val_split", "auto")


def test_val_split_of_all_rows_raises(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [qa(number) for number in range(5)])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, val_split=5), chatml)
    assert (caught.value.key, caught.value.got) == ("data.val_split", 5)


def test_val_split_of_equal_rows_raises(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [qa(0)] * 10)
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path), chatml)
    assert (caught.value.key, caught.value.got) == ("data.val_split", "auto")


@pytest.mark.parametrize("val", [-1, -0.1, 1.0, 1.5])
def test_val_split_out_of_range_raises(val: float) -> None:
    with pytest.raises(ConfigError) as caught:
        InstructionData("rows.jsonl", val_split=val)
    assert (caught.value.key, caught.value.got) == ("data.val_split", val)


def test_check_sources_missing_file_raises(tmp_path: Path) -> None:
    good = write_rows(tmp_path, [qa(0)])
    InstructionData(good).check_sources()
    for arguments in ({"path": [good, f"{good}x.json"]}, {"path": good, "val_split": f"{good}x.json"}):
        with pytest.raises(ConfigError) as caught:
            InstructionData(**arguments).check_sources()  # type: ignore[arg-type]
        assert f"{good}x.json" in str(caught.value)


def test_prepare_without_a_valid_row_raises_with_the_reasons(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [{"x": 1}, {"y": 2}])
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, format=alpaca, on_invalid="quarantine"), chatml)
    assert caught.value.key == "data.path"
    assert f"2 {DataError.reason}" in str(caught.value)


@pytest.mark.parametrize("on_overlong", ["drop", "truncate"])
def test_max_overlong_fraction_exceeded_raises_with_the_lengths(
    tmp_path: Path, chatml: BoundTemplate, on_overlong: Any
) -> None:
    # 21 rows of 30, 31, ... 50 tokens: p50 is 40, and p95 is 49.
    rows = [{"instruction": "q", "output": "x" * (8 + number)} for number in range(21)]
    path = write_rows(tmp_path, rows)
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, max_length=47, on_overlong=on_overlong), chatml)
    assert (caught.value.key, caught.value.got) == ("data.max_length", 47)
    assert "3 of 21 rows" in str(caught.value)
    assert "p50 = 40, p95 = 49, max = 50" in str(caught.value)


def test_max_overlong_fraction_reached_is_accepted(tmp_path: Path, chatml: BoundTemplate) -> None:
    rows = [{"instruction": "q", "output": "x" * (8 + number)} for number in range(20)]
    path = write_rows(tmp_path, rows)
    prepared = prepare(
        InstructionData(path, max_length=47, max_overlong_fraction=0.1, val_split=None), chatml
    )
    assert len(prepared.train) == 18


@pytest.mark.parametrize("val", [None, 0.5, "file"])
def test_max_overlong_fraction_1_with_no_row_left_raises(
    tmp_path: Path, chatml: BoundTemplate, val: Any
) -> None:
    path = write_rows(tmp_path, [{"instruction": "q", "output": "x" * 50}] * 3)
    if val == "file":
        val = write_rows(tmp_path, [qa(0)], "val.jsonl")
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, max_length=40, max_overlong_fraction=1.0, val_split=val), chatml)
    assert caught.value.key == "data.path"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    keys=st.lists(st.integers(0, 6), min_size=2, max_size=20),
    val=st.one_of(st.floats(0.01, 0.9), st.integers(1, 6)),
    seed=st.integers(0, 9),
)
def test_val_split_of_any_rows_is_disjoint_and_complete(
    byte_tokenizer: Any, keys: list[int], val: float, seed: int
) -> None:
    template = ChatTemplate(SOURCES["chatml"]).bind(byte_tokenizer)
    with TemporaryDirectory() as folder:
        data = InstructionData(
            write_rows(Path(folder), [qa(key) for key in keys]), val_split=val, split_seed=seed
        )
        refused = ""
        try:
            prepared = data.prepare(byte_tokenizer, template)
        except DataError as error:
            refused = str(error)
    if refused:
        assert "data.val_split" in refused
        return
    train, held = decode(prepared.train, byte_tokenizer), decode(prepared.val, byte_tokenizer)
    assert train
    assert held
    assert not set(train) & set(held)
    assert Counter(train + held) == Counter(chatml_text(f"q{key}", f"a{key}") for key in keys)


def test_val_split_file_without_a_valid_row_raises(tmp_path: Path, chatml: BoundTemplate) -> None:
    path = write_rows(tmp_path, [qa(0)])
    val = write_rows(tmp_path, [{"x": 1}], "val.jsonl")
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, format=alpaca, val_split=val, on_invalid="quarantine"), chatml)
    assert (caught.value.key, caught.value.got) == ("data.val_split", val)


def test_val_split_file_with_a_group_of_the_training_rows_raises(
    tmp_path: Path, chatml: BoundTemplate
) -> None:
    path = write_rows(tmp_path, [{**qa(0), "author": "x"}, {**qa(1), "author": "y"}])
    val = write_rows(tmp_path, [{**qa(2), "author": "y"}], "val.jsonl")
    with pytest.raises(DataError) as caught:
        prepare(InstructionData(path, val_split=val, group_by="author"), chatml)
    assert (caught.value.key, caught.value.got) == ("data.val_split", 1)
    assert str(caught.value).startswith(f"{val}:1: ")


@pytest.mark.parametrize("seed", [-1, 2**70])
def test_split_seed_may_be_any_integer(tmp_path: Path, chatml: BoundTemplate, seed: int) -> None:
    path = write_rows(tmp_path, [qa(number) for number in range(9)])
    prepared = InstructionData(path, val_split=3, split_seed=seed).prepare(chatml.tokenizer, chatml)
    assert len(prepared.val) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("val_split", float("nan")),
        ("max_overlong_fraction", float("nan")),
        ("max_overlong_fraction", 1.5),
        ("max_length", 7),
        ("num_workers", 0),
        ("path", ""),
        ("path", "#5"),
        ("path", []),
    ],
)
def test_value_out_of_range_raises(key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        InstructionData(**{"path": "rows.jsonl", key: value})
    assert (caught.value.key, caught.value.got) == (f"data.{key}", value)
